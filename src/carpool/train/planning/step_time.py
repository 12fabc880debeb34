"""What a step of the optimiser takes, and the micro-batches that it is computed in fastest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from carpool.cost.model import CostModel
from carpool.train.autosize.result import Throughput, Timing
from carpool.train.batch_plan import BatchPlan

if TYPE_CHECKING:
    from collections.abc import Iterator


CLEARLY = 0.03
"""Smaller micro-batches are taken only where they are faster by more than this: fewer of them are simpler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step of the optimiser, by the micro-batches of its window.

        t = sum of t(m) over the window's micro-batches + the update

    Args:
        cost: seconds of a forward and backward pass over so many items, `t(m)`; None where only one size was timed.
        largest: the pass over the largest micro-batch that was timed; without a cost, time is taken to grow with items.
        update_s: seconds of what a window does once: the optimiser's own step, and clearing the gradients.
    """

    cost: CostModel | None
    largest: Timing
    update_s: float

    @classmethod
    def of(cls, throughput: Throughput) -> Self:
        """Take the times that a search for the micro-batch measured.

        Args:
            throughput: times over sizes.
        """
        return cls(cost=throughput.cost, largest=throughput.timings[-1], update_s=throughput.update_s)

    def micro_batch_s(self, num_items: int) -> float:
        """Seconds of a forward and backward pass; beyond what was measured along the line through its end.

        Args:
            num_items: of the micro-batch.
        """
        if self.cost is None:
            return self.largest.pass_s * num_items / self.largest.size
        return self.cost.clipped().time_s(num_items, 1)

    def window_s(self, plan: BatchPlan, num_items: int | None = None) -> float:
        """Seconds of a step of the optimiser on the rank that has most to do.

        Args:
            plan: how the effective batch is cut.
            num_items: items of the window on all ranks; the whole effective batch where left out.
        """
        held = plan if num_items is None else _shorter(plan, num_items)
        sizes = Counter(held.sizes(0))
        return self.update_s + sum(times * self.micro_batch_s(size) for size, times in sizes.items())

    def epoch_s(self, plan: BatchPlan, num_items: int) -> float:
        """Seconds of one pass over the data, the short last window included.

        Args:
            plan: how the effective batch is cut.
            num_items: of the data.
        """
        whole, rest = divmod(num_items, plan.effective_batch_size)
        return whole * self.window_s(plan) + (self.window_s(plan, rest) if rest else 0.0)


def _shorter(plan: BatchPlan, num_items: int) -> BatchPlan:
    """The window of fewer items, in micro-batches no larger; ranks that would have none wait for those that have."""
    return BatchPlan(
        effective_batch_size=num_items,
        micro_batch_size=plan.micro_batch_size,
        num_ranks=min(plan.num_ranks, num_items),
    )


def fastest_plan(
    effective_batch_size: int, time: StepTime, *, largest_micro_batch: int, num_ranks: int = 1
) -> BatchPlan:
    """Cut an effective batch into the micro-batches that take the least time.

    The largest that fit are taken unless smaller ones are clearly faster, as where a cache holds them.

    Args:
        effective_batch_size: items of a step on all ranks.
        time: what micro-batches take.
        largest_micro_batch: most items that fit in memory.
        num_ranks: processes that train together.
    """
    plans = list(_plans(effective_batch_size, largest_micro_batch, num_ranks))
    simplest, fastest = plans[0], min(plans, key=time.window_s)
    return fastest if time.window_s(fastest) < (1.0 - CLEARLY) * time.window_s(simplest) else simplest


def _plans(effective: int, largest: int, num_ranks: int) -> Iterator[BatchPlan]:
    """Cut into as few micro-batches as fit, and then into about twice as many again and again."""
    mine = -(-effective // num_ranks)
    num_parts = -(-mine // largest)
    while num_parts < 2 * mine:
        size = -(-mine // min(num_parts, mine))
        yield BatchPlan(effective_batch_size=effective, micro_batch_size=size, num_ranks=num_ranks)
        num_parts *= 2
