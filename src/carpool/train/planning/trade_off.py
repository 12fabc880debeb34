"""What each effective batch costs and buys: time of a step and of a pass over the data, memory, and time to a target.

Larger batches need fewer steps and more examples to get equally far: `carpool.train.noise.critical` says by how much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.critical import more_examples, more_steps
from carpool.train.planning.step_time import StepTime, fastest_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from carpool.cost.memory import MemoryFit

    Floats = NDArray[np.float64]

_NUM_SCALES = 33  # noise scales within the interval that a batch may be the fastest at
_LEAST_SCALE, _MOST_SCALE = 1e-3, 1e15  # any batch is large, or small, beside them


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How noisy gradients are: the noise scale, and how well it is known.

    Args:
        scale: the batch size, in items, at which a step's gradient is half noise.
        low: lower end of its interval; the scale itself where it was given.
        high: upper end; may be infinite.
        source: where it comes from.

    Raises:
        ConfigError: it is not a positive number, or the interval does not hold it.
    """

    scale: float
    low: float
    high: float
    source: str = "as given"

    def __post_init__(self) -> None:
        if not (0.0 <= self.low <= self.scale <= self.high and 0.0 < self.scale < math.inf):
            raise ConfigError(
                f"a noise scale of {self.scale:g} within {self.low:g} to {self.high:g} can't be planned with: it must "
                "be a finite number above 0, within its interval"
            )

    @classmethod
    def known(cls, scale: float) -> Noise:
        """A noise scale that somebody gave, without an interval.

        Args:
            scale: the batch size at which a step's gradient is half noise.
        """
        return cls(scale=scale, low=scale, high=scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """How many steps a training run takes to get where it should, at a batch that it was run with.

    Args:
        num_steps: steps of the optimiser.
        batch_size: effective batch at which it takes so many.
    """

    num_steps: int
    batch_size: int

    def steps_at(self, batch_size: int, noise_scale: float) -> float:
        """Steps that another effective batch takes to get equally far.

        Args:
            batch_size: the other.
            noise_scale: of the gradients.

        >>> Target(num_steps=1000, batch_size=100).steps_at(300, noise_scale=300.0)
        500.0
        """
        return self.num_steps * more_steps(batch_size, noise_scale) / more_steps(self.batch_size, noise_scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToTarget:
    """What it takes to get as far as any other batch gets.

    Args:
        more_steps: over the fewest steps that any batch takes.
        more_examples: over the fewest examples.
        more_time: over the time of the fastest batch in the table.
        more_time_low: the least of it that the noise scale's interval allows.
        more_time_high: the most.
        num_steps: steps; None where no target is known.
        time_s: seconds; None likewise.
    """

    more_steps: float
    more_examples: float
    more_time: float
    more_time_low: float
    more_time_high: float
    num_steps: float | None = None
    time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One effective batch.

    Args:
        plan: how it is cut.
        step_s: seconds of a step of the optimiser.
        num_steps: steps in a pass over the data.
        epoch_s: seconds of that.
        memory_bytes: predicted peak of a rank; None where nothing says.
        learning_rate: of the first group of parameters, scaled; None where nothing says what it was chosen for.
        to_target: time to a target; None where the noise scale is not known.
    """

    plan: BatchPlan
    step_s: float
    num_steps: int
    epoch_s: float
    memory_bytes: float | None
    learning_rate: float | None
    to_target: ToTarget | None

    @property
    def batch_size(self) -> int:
        """The effective batch."""
        return self.plan.effective_batch_size

    @property
    def items_per_s(self) -> float:
        """Items a second, of all ranks."""
        return self.batch_size / self.step_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeOff:
    """What each effective batch costs and buys.

    Args:
        rows: by effective batch, ascending.
        chosen: number of the row of the batch that was asked for.
        left_out: effective batches without a row: more than the data have items, or fewer than ranks.
    """

    rows: tuple[Row, ...]
    chosen: int
    left_out: tuple[int, ...] = ()

    @property
    def asked(self) -> Row:
        """The row of the batch that was asked for."""
        return self.rows[self.chosen]

    @property
    def fastest(self) -> Row | None:
        """The row that reaches a target first; None where the noise scale is not known."""
        known = [(row.to_target.more_time, row) for row in self.rows if row.to_target is not None]
        return min(known, key=lambda pair: pair[0])[1] if known else None

    def fastest_between(self) -> tuple[int, int] | None:
        """The smallest and the largest batch that may be the fastest, by the noise scale's interval."""
        sizes = [row.batch_size for row in self.rows if row.to_target is not None and row.to_target.more_time_low <= 1]
        return (sizes[0], sizes[-1]) if sizes else None


def trade_off(
    batch_sizes: Iterable[int],
    asked: int,
    time: StepTime,
    *,
    num_items: int,
    largest_micro_batch: int,
    num_ranks: int = 1,
    memory: MemoryFit | None = None,
    noise: Noise | None = None,
    target: Target | None = None,
    learning_rate: Callable[[int], float | None] = lambda _: None,
) -> TradeOff:
    """Work out what each effective batch costs and buys.

    Args:
        batch_sizes: effective batches to compare.
        asked: the one that is asked for, which the data hold; it gets a row too.
        time: what micro-batches and updates take.
        num_items: of one pass over the data.
        largest_micro_batch: most items that fit in memory.
        num_ranks: processes that train together; what they tell each other is not in the times.
        memory: peak of a micro-batch.
        noise: how noisy gradients are.
        target: how many steps some batch takes; then times to it are absolute as well.
        learning_rate: gives the one that goes with an effective batch.
    """
    wanted = sorted({*batch_sizes, asked})
    sizes = [size for size in wanted if num_ranks <= size <= num_items]

    def row(size: int) -> Row:
        plan = fastest_plan(size, time, largest_micro_batch=largest_micro_batch, num_ranks=num_ranks)
        return Row(
            plan=plan,
            step_s=time.window_s(plan),
            num_steps=-(-num_items // size),
            epoch_s=time.epoch_s(plan, num_items),
            memory_bytes=None if memory is None else memory.memory_bytes(max(plan.sizes(0)), 1),
            learning_rate=learning_rate(size),
            to_target=None,
        )

    rows = [row(size) for size in sizes]
    return TradeOff(
        rows=tuple(rows if noise is None else _with_targets(rows, noise, target)),
        chosen=sizes.index(asked),
        left_out=tuple(size for size in wanted if size not in sizes),
    )


def _with_targets(rows: Sequence[Row], noise: Noise, target: Target | None) -> list[Row]:
    """Add what each row takes to a target, at the noise scale and over its interval."""
    low, high = min(noise.scale, max(noise.low, _LEAST_SCALE)), max(noise.scale, min(noise.high, _MOST_SCALE))
    interval = np.geomspace(low, high, _NUM_SCALES)
    here = _more_time(rows, np.array([noise.scale]))[0]
    within = np.concatenate([_more_time(rows, interval), [here]])

    def to_target(row: Row, index: int) -> ToTarget:
        steps = None if target is None else target.steps_at(row.batch_size, noise.scale)
        return ToTarget(
            more_steps=more_steps(row.batch_size, noise.scale),
            more_examples=more_examples(row.batch_size, noise.scale),
            more_time=float(here[index]),
            more_time_low=float(within[:, index].min()),
            more_time_high=float(within[:, index].max()),
            num_steps=steps,
            time_s=None if steps is None else steps * row.step_s,
        )

    return [replace(row, to_target=to_target(row, index)) for index, row in enumerate(rows)]


def _more_time(rows: Sequence[Row], noise_scales: Floats) -> Floats:
    """Time to a target over that of the fastest row (scales, rows)."""
    sizes, steps_s = (np.array([getattr(row, name) for row in rows]) for name in ("batch_size", "step_s"))
    times: Floats = (1.0 + noise_scales[:, None] / sizes) * steps_s
    return np.asarray(times / times.min(axis=1, keepdims=True))
