"""The items of each window: exactly the effective batch, however many ranks and micro-batches it is cut into."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, chain, islice
from operator import index as as_index
from typing import TYPE_CHECKING, Any, SupportsIndex
from zlib import crc32

import numpy as np

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    Items = NDArray[np.int64]
    Steps = list[list[Items]]  # the items of each rank's micro-batch, step by step

_STATE = ("epoch", "num_items_done", "num_items", "effective_batch_size", "order")


@dataclass(slots=True)
class _Pass:
    """A pass over the items, as far as they were handed out.

    Args:
        epoch: chooses the order.
        start: items of the epoch that came before.
        ends: items of the epoch up to the end of each window that was handed out whole.
        num_steps: this rank's micro-batches in each window that was begun.
        plans: of each window that was begun.
        num_given: windows that were begun to be computed.
    """

    epoch: int = 0
    start: int = 0
    ends: list[int] = field(default_factory=list)
    num_steps: list[int] = field(default_factory=list)
    plans: list[BatchPlan] = field(default_factory=list)
    num_given: int = 0

    def num_items_after(self, num_windows: int | None) -> int:
        """Return the items of the epoch up to the end of so many windows of this pass; of all where it is None."""
        num_windows = len(self.ends) if num_windows is None else _from_zero("num_windows", num_windows)
        if num_windows > len(self.ends):
            raise ConfigError(
                f"num_windows is {num_windows}, and this pass has handed out {len(self.ends)}: count from its beginning"
            )
        return self.ends[num_windows - 1] if num_windows else self.start


class WindowSampler(ABC):
    """Gives the indices of one rank's micro-batches, window by window: a `batch_sampler` for a `DataLoader`.

    A window has exactly the plan's effective batch, over all ranks; the last of an epoch has what is left. Which items
    form a window depends neither on the size of the micro-batches nor on the number of ranks. A rank for which a window
    has no items skips it; `windows` tells.

    A pass that follows one that reached its end is the next epoch's, with another order; one that follows a pass which
    was broken off begins the same epoch again.

    Args:
        num_items: of the data set.
        plan: what a window is made of.
        rank: whose micro-batches to give, from 0.
        seed: of the order, the same one on all ranks.

    Raises:
        ConfigError: a number is out of range.
    """

    def __init__(self, num_items: int, plan: BatchPlan, *, rank: int, shuffle: bool, seed: int) -> None:
        check_whole("num_items", num_items)
        self._num_items, self._plan, self._shuffle = as_index(num_items), plan, shuffle
        self._rank, self._seed = _from_zero("rank", rank), _from_zero("seed", seed)
        plan.sizes(self._rank)  # refuses a rank that is not there
        self._pass = _Pass()
        self._next: _Pass | None = self._pass
        self._is_chosen = False
        self._kept: tuple[int, Items] | None = None

    @property
    def plan(self) -> BatchPlan:
        """What a window is made of."""
        return self._plan

    @property
    def plan_of_window(self) -> BatchPlan:
        """By which the window was begun that `windows` gave last: workers that fetch ahead begin some before it."""
        current = self._pass
        return current.plans[current.num_given - 1] if current.num_given else self._plan

    @property
    def epoch(self) -> int:
        """Of the pass that is under way, or comes first."""
        return (self._next or self._pass).epoch

    @property
    def num_windows(self) -> int:
        """Of an epoch, the short last one included."""
        return -(-self._num_items // self._plan.effective_batch_size)

    @property
    def last_window_size(self) -> int:
        """Items of an epoch's last window, over all ranks: the effective batch, or what is left of the items."""
        return (self._num_items - 1) % self._plan.effective_batch_size + 1

    @abstractmethod
    def _arrange(self, order: Items, chance: np.random.Generator) -> None:
        """Put the items of an epoch in order: the first effective batch of them form the first window, and so on.

        Args:
            order: of the items, shuffled where that is wished for; changed in place.
            chance: for further choices.
        """

    def _deal(self, window: Items) -> Steps:
        """Cut a window into every rank's micro-batches.

        Neighbours of a window are computed at the same time on all ranks: if it is in order of length, none waits long.
        """
        ranks = self._plan.num_ranks
        sizes = [self._plan.sizes(rank, len(window)) for rank in range(ranks)]
        ends = list(accumulate(chain.from_iterable(zip(*sizes, strict=True))))
        pieces = np.split(window, ends[:-1])
        return [pieces[first : first + ranks] for first in range(0, len(pieces), ranks)]

    def __iter__(self) -> Iterator[list[int]]:
        """Begin a pass: the one chosen by `set_epoch` or `load_state_dict`, else that of the next epoch."""
        self._pass, self._next = self._upcoming(), None
        return self._walk(self._pass)

    def __len__(self) -> int:
        """Return the micro-batches of this rank in a whole epoch: the one under way, or that comes first."""
        num_full, num_left = divmod(self._num_items, self._plan.effective_batch_size)
        sizes = self._plan.sizes(self._rank) * num_full
        return sum(size > 0 for size in sizes + (self._plan.sizes(self._rank, num_left) if num_left else ()))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; one that `load_state_dict` has begun is not begun anew.

        Args:
            epoch: from 0.

        Raises:
            ConfigError: it is no whole number from 0.
        """
        epoch = _from_zero("epoch", epoch)
        if self._next is None or self._next.epoch != epoch:
            self._next = _Pass(epoch)
        self._is_chosen = True

    def windows(self, loader: Iterable[Any]) -> Iterator[list[Any]]:
        """Make a pass, and give the micro-batches of each window; none of a last one in which this rank has no items.

        Args:
            loader: gives a micro-batch for each of this sampler's lists of indices, in their order.

        Raises:
            ConfigError: it gives more of them.
        """
        batches = iter(loader)
        for index, first in enumerate(batches):
            taken = [first, *islice(batches, self._num_steps(index) - 1)]
            self._pass.num_given = index + 1
            yield taken
        if self._pass.num_steps[-1:] == [0]:  # only the last window can have too few items for all ranks
            self._pass.num_given = len(self._pass.num_steps)
            yield []

    def state_dict(self, num_windows: int | None = None) -> dict[str, int]:
        """What a checkpoint keeps, to go on with the next window: on other ranks or in other micro-batches if need be.

        After the last window of an epoch that is the first one of the next epoch.

        Args:
            num_windows: of this pass that were trained; by default all that were handed out, which is right where no
                workers of a loader fetch ahead.

        Raises:
            ConfigError: fewer windows than that were handed out.
        """
        current = self._next or self._pass
        epoch, num_items_done = current.epoch, current.num_items_after(num_windows)
        if num_items_done == self._num_items:
            epoch, num_items_done = epoch + 1, 0
        return {
            "epoch": epoch,
            "num_items_done": num_items_done,
            "num_items": self._num_items,
            "effective_batch_size": self._plan.effective_batch_size,
            "order": crc32(self._order(epoch).tobytes()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass go on where a checkpoint was made.

        Args:
            state: from `state_dict`, on any rank.

        Raises:
            ConfigError: something is missing in it, or it is of other items, another order or another effective batch.
        """
        if not isinstance(state, Mapping):
            raise ConfigError(f"the sampler's state is {state!r}: give what its state_dict returned")
        missing = [name for name in _STATE if name not in state]
        if missing:
            raise ConfigError(f"the sampler's state lacks {' and '.join(missing)}: it was saved by something else")
        for name, mine in (("num_items", self._num_items), ("effective_batch_size", self._plan.effective_batch_size)):
            if state[name] != mine:
                raise ConfigError(f"the sampler's state has {name} {state[name]}, and this one {mine}: make it alike")
        epoch = _from_zero("the state's epoch", state["epoch"])
        num_items_done = _from_zero("the state's num_items_done", state["num_items_done"])
        if num_items_done > self._num_items:
            raise ConfigError(f"the sampler's state has {num_items_done} of {self._num_items} items done: it is broken")
        if state["order"] != crc32(self._order(epoch).tobytes()):
            raise ConfigError(
                f"the items of epoch {epoch} are in another order than when the sampler's state was saved: use the "
                "same seed, lengths, kind of sampler and version of numpy"
            )
        self._next, self._is_chosen = _Pass(epoch, num_items_done), False

    def _num_steps(self, index: int) -> int:
        if index >= len(self._pass.num_steps):
            raise ConfigError(
                f"the loader gives more than the {sum(self._pass.num_steps)} micro-batches of this sampler: make it "
                "with batch_sampler= this one"
            )
        return self._pass.num_steps[index]

    def _upcoming(self) -> _Pass:
        current, is_chosen = self._next or self._pass, self._is_chosen
        self._is_chosen = False
        if not is_chosen and current.num_items_after(None) == self._num_items:
            return _Pass(current.epoch + 1)
        if not current.num_steps:  # not begun: a loader with workers asks twice
            return _Pass(current.epoch, current.start)
        return self._next or _Pass(current.epoch)

    def _walk(self, current: _Pass) -> Iterator[list[int]]:
        for window in self._windows(current.epoch, current.start):
            done = (current.ends[-1] if current.ends else current.start) + len(window)
            mine = [step[self._rank].tolist() for step in self._deal(window)]
            mine = [indices for indices in mine if indices]
            current.num_steps.append(len(mine))
            current.plans.append(self._plan)
            yield from mine[:-1]
            current.ends.append(done)  # before the last is computed: a checkpoint comes after it
            yield from mine[-1:]

    def _windows(self, epoch: int, start: int = 0) -> Iterator[Items]:
        """Return the items of an epoch's windows; the plan may change meanwhile."""
        order = self._order(epoch)
        while start < len(order):
            window = order[start : start + self._plan.effective_batch_size]
            yield window
            start += len(window)

    def _order(self, epoch: int) -> Items:
        if self._kept is None or self._kept[0] != epoch:
            chance = np.random.default_rng([self._seed, epoch])
            order = chance.permutation(self._num_items) if self._shuffle else np.arange(self._num_items)
            self._arrange(order, chance)
            self._kept = epoch, order
        return self._kept[1]


class EffectiveBatchSampler(WindowSampler):
    """Gives windows of exactly the effective batch, in random order or as they come.

    Args:
        num_items: of the data set.
        plan: what a window is made of.
        rank: whose micro-batches to give, from 0.
        shuffle: in another order each epoch.
        seed: of the order, the same one on all ranks.

    Raises:
        ConfigError: a number is out of range.

    >>> from carpool.train import BatchPlan
    >>> sampler = EffectiveBatchSampler(7, BatchPlan(effective_batch_size=4, micro_batch_size=2), shuffle=False)
    >>> list(sampler), sampler.last_window_size
    ([[0, 1], [2, 3], [4, 5], [6]], 3)
    """

    def __init__(self, num_items: int, plan: BatchPlan, *, rank: int = 0, shuffle: bool = True, seed: int = 0) -> None:
        super().__init__(num_items, plan, rank=rank, shuffle=shuffle, seed=seed)

    def set_plan(self, plan: BatchPlan) -> None:
        """Change the plan from the next window on, as while the effective batch grows during training.

        All ranks do so at the same window, and give their `Accumulator` the same plan. Workers that fetch ahead have
        begun some windows by the old one: `windows` keeps them apart.

        Args:
            plan: the new one.

        Raises:
            ConfigError: it has no place for this rank.
        """
        plan.sizes(self._rank)
        self._plan = plan

    def _arrange(self, order: Items, chance: np.random.Generator) -> None:
        """Leave the order as it is."""


def _from_zero(name: str, value: object) -> int:
    """Return a whole number from 0, and refuse what is none."""
    if not isinstance(value, SupportsIndex) or isinstance(value, bool) or as_index(value) < 0:
        raise ConfigError(f"{name} is {value!r}; it must be at least 0, a whole number")
    return as_index(value)
