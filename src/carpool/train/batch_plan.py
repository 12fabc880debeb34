"""How an effective batch is made of micro-batches: one that does not fit in memory at once is computed in parts.

    effective batch = micro-batches of a window, on all ranks

The effective batch is what the optimiser sees, and what the learning rate belongs to: it stays as it is when the
micro-batch or the number of ranks changes, down to the last item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import index as as_index
from typing import Any, Self

from carpool.core.limits import check_whole
from carpool.errors import ConfigError

_FIELDS = ("effective_batch_size", "micro_batch_size", "num_accumulation_steps", "num_ranks")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """The parts of an effective batch.

    Args:
        effective_batch_size: items of one step of the optimiser, over all ranks.
        micro_batch_size: most items of one forward and backward pass of a rank.
        num_ranks: processes that train together.

    Raises:
        ConfigError: a number is below 1, or there is not an item for each rank.

    >>> plan = BatchPlan(effective_batch_size=1000, micro_batch_size=96)
    >>> plan.num_accumulation_steps, plan.sizes(0)
    (11, (91, 91, 91, 91, 91, 91, 91, 91, 91, 91, 90))
    >>> plan.with_micro_batch(64).effective_batch_size
    1000
    """

    effective_batch_size: int
    micro_batch_size: int
    num_ranks: int = 1

    def __post_init__(self) -> None:
        for name in ("effective_batch_size", "micro_batch_size", "num_ranks"):
            check_whole(name, getattr(self, name))
        if self.effective_batch_size < self.num_ranks:
            raise ConfigError(
                f"effective_batch_size is {self.effective_batch_size}, too few for {self.num_ranks} ranks: "
                "make it larger, or train on fewer ranks"
            )

    @classmethod
    def of(
        cls,
        *,
        effective_batch_size: int | None = None,
        micro_batch_size: int | None = None,
        num_accumulation_steps: int | None = None,
        num_ranks: int | None = None,
    ) -> Self:
        """Make a plan of some of its numbers; what is left out follows from the others.

        Args:
            effective_batch_size: items of one step of the optimiser, over all ranks.
            micro_batch_size: most items of one pass of a rank.
            num_accumulation_steps: passes of each rank for one step of the optimiser.
            num_ranks: processes; 1 where it does not follow from the other three.

        Raises:
            ConfigError: too few numbers are given, or they contradict each other.

        >>> BatchPlan.of(effective_batch_size=512, num_accumulation_steps=4, num_ranks=2).micro_batch_size
        64
        >>> BatchPlan.of(micro_batch_size=8, num_accumulation_steps=4).effective_batch_size
        32
        """
        given = (effective_batch_size, micro_batch_size, num_accumulation_steps, num_ranks)
        for name, value in zip(_FIELDS, given, strict=True):
            if value is not None:
                check_whole(name, value)
        effective, micro, steps, ranks = given
        if effective is not None and micro is not None and steps is not None and ranks is None:
            ranks = _whole_ranks(effective, micro, steps)
        ranks = ranks or 1
        if effective is None and micro is not None and steps is not None:
            effective = micro * steps * ranks
        if micro is None and effective is not None and steps is not None:
            micro = -(-effective // (steps * ranks))
        if effective is None or micro is None:
            said = ", ".join(f"{name} {value}" for name, value in zip(_FIELDS, given, strict=True) if value is not None)
            raise ConfigError(
                f"{said or 'nothing'} does not make a plan: give two of effective_batch_size, micro_batch_size and "
                "num_accumulation_steps"
            )
        plan = cls(effective_batch_size=effective, micro_batch_size=micro, num_ranks=ranks)
        if steps is not None and plan.num_accumulation_steps != steps:
            raise _contradiction(plan, steps, micro_batch_size)
        return plan

    @property
    def num_accumulation_steps(self) -> int:
        """Passes of each rank for one step of the optimiser."""
        return -(-self.most_items_of_a_rank // self.micro_batch_size)

    @property
    def most_items_of_a_rank(self) -> int:
        """Items of one step of the optimiser on the rank that has most."""
        return -(-self.effective_batch_size // self.num_ranks)

    def sizes(self, rank: int, num_items: int | None = None) -> tuple[int, ...]:
        """Items of each micro-batch of a window: as even as they can be, and together the effective batch on all ranks.

        Every rank has as many micro-batches; one of them may be empty where there are few items for many ranks.

        Args:
            rank: from 0.
            num_items: of a short last window, over all ranks; the effective batch by default.

        Raises:
            ConfigError: there is no such rank, or no window of so many items.
        """
        if not 0 <= rank < self.num_ranks:
            raise ConfigError(f"rank is {rank}, and the plan has 0 to {self.num_ranks - 1}: plan for more ranks")
        if num_items is not None and not 1 <= num_items <= self.effective_batch_size:
            raise ConfigError(f"a window has 1 to {self.effective_batch_size} items by the plan, not {num_items}")
        total = self.effective_batch_size if num_items is None else num_items
        shares = _even(total, self.num_ranks)
        return _even(shares[rank], -(-shares[0] // self.micro_batch_size))

    def with_micro_batch(self, micro_batch_size: int) -> Self:
        """The same effective batch in micro-batches of another size.

        Args:
            micro_batch_size: most items of one pass of a rank.
        """
        return replace(self, micro_batch_size=micro_batch_size)

    def with_ranks(self, num_ranks: int) -> Self:
        """The same effective batch on another number of ranks.

        Args:
            num_ranks: processes.
        """
        return replace(self, num_ranks=num_ranks)

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint keeps."""
        # torch loads Python's own numbers without being told that they are safe, and numpy's not
        return {
            name: as_index(getattr(self, name)) for name in ("effective_batch_size", "micro_batch_size", "num_ranks")
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Make the plan that a checkpoint holds; `with_micro_batch` and `with_ranks` fit it to another machine.

        Args:
            state: from `state_dict`.

        Raises:
            ConfigError: something is missing in it, or is no count.
        """
        if not isinstance(state, Mapping):
            raise ConfigError(f"the checkpoint's batch plan is {state!r}: it was saved by something else")
        missing = [name for name in ("effective_batch_size", "micro_batch_size", "num_ranks") if name not in state]
        if missing:
            raise ConfigError(
                f"the checkpoint's batch plan lacks {' and '.join(missing)}: it was saved by something else"
            )
        return cls(
            effective_batch_size=state["effective_batch_size"],
            micro_batch_size=state["micro_batch_size"],
            num_ranks=state["num_ranks"],
        )

    def __str__(self) -> str:
        sizes = sorted(set(self.sizes(0)))
        items = " or ".join(map(str, sizes))
        ranks = f" on {self.num_ranks} ranks" if self.num_ranks > 1 else ""
        return f"effective batch {self.effective_batch_size} = {self.num_accumulation_steps} x {items}{ranks}"


def _contradiction(plan: BatchPlan, steps: int, micro: int | None) -> ConfigError:
    """Say why so many steps are not the plan's, in the numbers that were given."""
    effective, works = plan.effective_batch_size, plan.num_accumulation_steps
    if micro is not None:
        return ConfigError(
            f"{steps} accumulation steps of {micro} items on {plan.num_ranks} ranks do not make {effective}: that "
            f"takes {works}; leave one of the numbers out, and it follows"
        )
    ranks = f" on {plan.num_ranks} ranks" if plan.num_ranks > 1 else ""
    return ConfigError(
        f"effective_batch_size {effective}{ranks} cannot be cut into micro-batches that take {steps} accumulation "
        f"steps: micro-batches of {plan.micro_batch_size} make it in {works}; give num_accumulation_steps={works}"
    )


def _whole_ranks(effective: int, micro: int, steps: int) -> int:
    ranks, left = divmod(effective, micro * steps)
    if left or not ranks:
        raise ConfigError(
            f"{steps} accumulation steps of {micro} items are {steps * micro}, which does not divide {effective}: "
            "leave one of the numbers out, and it follows"
        )
    return ranks


def _even(total: int, num_parts: int) -> tuple[int, ...]:
    """Cut a number into parts that differ by one at most, the larger ones first."""
    size, more = divmod(total, num_parts)
    return (size + 1,) * more + (size,) * (num_parts - more)
