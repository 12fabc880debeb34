"""The batch that reaches a target in the least time: more steps are taken below it, and longer ones above.

    time(B) = S (1 + N / B) t(B)        t(B) = t0 + c B        B* = sqrt(N t0 / c)

N is the critical batch size. Where steps cost nothing besides their items (t0 = 0), the smallest batch is fastest;
where they cost nothing but themselves (c = 0, as while an accelerator is not full), the largest.

One micro-batch bounds what `t0 + c B` holds for. Beyond the largest, m, another pass is paid for every m items: t0 is
what a window does once (the optimiser's step, what ranks tell each other), and c becomes `c + a / m`, with `a` for what
each pass costs besides its items.

It is a hint: the noise scale stands for N to an order of magnitude, and the rule for the learning rate is taken to
hold. The time about B* is flat, though: at half or twice B* it is longer by an eighth at most.

Source: `steps(B)` from S. McCandlish, J. Kaplan, D. Amodei, "An Empirical Model of Large-Batch Training", 2018,
arXiv 1812.06162, section 2.3; the minimum follows by setting the derivative to 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, hypot, inf, sqrt
from typing import TYPE_CHECKING

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.noise.critical import more_examples, more_steps
from carpool.train.noise.numbers import number
from carpool.units import format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator


_BEYOND = 1000  # times the critical batch size, nothing is left to be saved
_MOST_ITEMS = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """Seconds of a step of the optimiser, as straight lines over its items.

    Args:
        step_s: of what a window does once: the optimiser's step, and what ranks tell each other.
        micro_batch_s: of a forward and backward pass besides its items.
        item_s: of each item.
        largest_micro_batch: most items that a pass of a rank holds.
        num_ranks: processes that share a window.

    Raises:
        ConfigError: a number is out of its range, or all is free.

    >>> cost = StepCost(step_s=0.01, micro_batch_s=0.02, item_s=0.001, largest_micro_batch=64)
    >>> cost.time_s(64), cost.time_s(65)
    (0.094, 0.115)
    """

    step_s: float
    micro_batch_s: float
    item_s: float
    largest_micro_batch: int
    num_ranks: int = 1

    def __post_init__(self) -> None:
        for name in ("step_s", "micro_batch_s", "item_s"):
            if not 0 <= number(getattr(self, name)) < inf:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be at least 0 and finite, in seconds")
        if not self.step_s + self.micro_batch_s + self.item_s:
            raise ConfigError("step_s, micro_batch_s and item_s are all 0: give what was measured")
        check_whole("largest_micro_batch", self.largest_micro_batch)
        check_whole("num_ranks", self.num_ranks)

    @property
    def items_of_a_pass(self) -> int:
        """Items that all ranks hold together in one pass."""
        return self.largest_micro_batch * self.num_ranks

    def time_s(self, batch_size: float) -> float:
        """Seconds of a step.

        Args:
            batch_size: effective batch, over all ranks.
        """
        return self.window_s(ceil(batch_size / self.items_of_a_pass)) + self.item_s * batch_size / self.num_ranks

    def window_s(self, num_passes: int) -> float:
        """Seconds of a step besides its items.

        Args:
            num_passes: micro-batches of a rank.
        """
        return self.step_s + num_passes * self.micro_batch_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeOptimal:
    """The batch that reaches a target first.

    Args:
        batch_size: effective batch.
        step_s: seconds of a step of it.
        more_steps: steps over the fewest that any batch takes.
        more_examples: examples over the fewest that any batch takes.
        why: the formula that it comes from, with its numbers, or what it is held by.
    """

    batch_size: int
    step_s: float
    more_steps: float
    more_examples: float
    why: str


def time_optimal_batch(critical_batch_size: float, cost: StepCost, *, most: int | None = None) -> TimeOptimal:
    """Find the batch that reaches a target in the least time.

    Args:
        critical_batch_size: measured, or the noise scale in its place; in items.
        cost: of a step.
        most: the largest batch that is of interest, such as all training data; by default a thousand times the critical
            one, beyond which no step in a thousand is left to be saved.

    Raises:
        ConfigError: a number is out of its range.

    >>> cost = StepCost(step_s=0.09, micro_batch_s=0.01, item_s=0.001, largest_micro_batch=1024)
    >>> best = time_optimal_batch(400, cost)
    >>> best.batch_size, best.why
    (200, 'sqrt(400 x 100 ms / 1 ms)')
    """
    if most is None:
        fewer = more_steps(1, critical_batch_size) - 1  # which refuses what is no batch size
        most = max(ceil(min(_BEYOND * fewer, _MOST_ITEMS)), cost.num_ranks)
    check_whole("most", most)
    if most < cost.num_ranks:
        raise ConfigError(f"most is {most}, too few for {cost.num_ranks} ranks: make it larger, or use fewer ranks")

    def time_of(batch_size: int) -> float:
        return more_steps(batch_size, critical_batch_size) * cost.time_s(batch_size)

    best = min(_candidates(critical_batch_size, cost, most), key=time_of)
    return TimeOptimal(
        batch_size=best,
        step_s=cost.time_s(best),
        more_steps=more_steps(best, critical_batch_size),
        more_examples=more_examples(best, critical_batch_size),
        why=_why(critical_batch_size, cost, best, most),
    )


def _candidates(critical: float, cost: StepCost, largest: int) -> Iterator[int]:
    """The batches that may be best: the best of each number of passes of a rank, for those numbers that may be.

    With n passes the time is `(1 + N/B) (w + n a + c B)`: best at `sqrt(N (w + n a) / c)`, or at the end of the stretch
    that has n passes which is nearer. Full passes are best about n = B*/m; a batch within its stretch is best in the
    first one that holds its optimum.
    """
    full, item_s = cost.items_of_a_pass, cost.item_s / cost.num_ranks
    passes = (_passes_when_full(critical, cost), _passes_when_not(critical, cost))
    most_passes = ceil(largest / full)
    for near in passes:
        middle = int(min(near, most_passes))
        for num_passes in {1, *range(max(middle - 1, 1), min(middle + 2, most_passes) + 1)}:
            optimum = sqrt(critical * cost.window_s(num_passes) / item_s) if item_s else inf
            low = max((num_passes - 1) * full + 1, cost.num_ranks)
            high = min(num_passes * full, largest)
            yield max(min(int(min(optimum, high)), high), low)
            yield max(min(ceil(min(optimum, high)), high), low)


def _passes_when_full(critical: float, cost: StepCost) -> float:
    """Passes of a rank in the best batch that is made of full ones."""
    full = cost.items_of_a_pass
    slope = cost.item_s / cost.num_ranks + cost.micro_batch_s / full
    return sqrt(critical * cost.step_s / slope) / full if slope else inf


def _passes_when_not(critical: float, cost: StepCost) -> float:
    """The fewest passes of a rank that hold their own optimum: n with `sqrt(N (w + n a) / c) <= n m`."""
    square = cost.item_s / cost.num_ranks * cost.items_of_a_pass**2
    half = critical * cost.micro_batch_s / 2
    return (half + hypot(half, sqrt(square * critical * cost.step_s))) / square if square else inf


def _why(critical: float, cost: StepCost, best: int, largest: int) -> str:
    """The formula of the regime that the best batch lies in, or what holds it where it is not the formula's."""
    item_s = cost.item_s / cost.num_ranks
    full = cost.items_of_a_pass
    fixed_s, slope = (cost.window_s(1), item_s) if best <= full else (cost.step_s, item_s + cost.micro_batch_s / full)
    if best == full:
        return "one full pass: more items would take another"
    if best in {largest, cost.num_ranks}:
        return f"the {'largest' if best == largest else 'smallest'} batch that may be"
    return f"sqrt({format_count(critical)} x {format_duration(fixed_s)} / {format_duration(slope)})"
