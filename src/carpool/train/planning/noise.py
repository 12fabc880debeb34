"""Measures the noise scale by training a while, for a plan that nobody gave it to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.estimate import LEAST_WINDOWS, NoiseEstimate
from carpool.train.noise.listener import NoiseScale
from carpool.train.planning.runs import whole_windows
from carpool.train.planning.trade_off import Noise
from carpool.train.setup import count_items
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.train.setup import TrainSetup

NUM_PARTS = 8
"""Micro-batches of a window at least: the more, the surer."""
ENOUGH_WINDOWS, NARROW = 32, 1.5
"""It is known well enough after so many windows, when the interval's ends are within this factor."""
DECAY = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredNoise:
    """A noise scale that was measured while the model was trained a little.

    Args:
        estimate: in valid items.
        valid_per_item: valid items of an item, on average.
        num_steps: steps of the optimiser that it took.
        batch_size: effective batch of those steps.
    """

    estimate: NoiseEstimate
    valid_per_item: float
    num_steps: int
    batch_size: int

    def in_items(self) -> Noise | None:
        """The same in items; None where it was not identified."""
        found = self.estimate
        if not (found.identified and found.noise_scale > 0.0):
            return None
        return Noise(
            scale=found.noise_scale / self.valid_per_item,
            low=min(found.low, found.noise_scale) / self.valid_per_item,
            high=max(found.high, found.noise_scale) / self.valid_per_item,
            source=f"measured over {counted(self.num_steps, 'step')} of {self.batch_size:,} items",
        )


def measure_noise(
    setup: TrainSetup,
    effective_batch_size: int,
    *,
    most_micro_batch: int,
    least_micro_batch: int = 1,
    budget_s: float,
    clock: Callable[[], float],
) -> MeasuredNoise:
    """Train until the noise scale is well known, or the time is up.

    Args:
        setup: whose model is trained, with the optimiser as it is.
        effective_batch_size: items of a step, about: it is cut into equal parts.
        most_micro_batch: most items that fit in memory.
        least_micro_batch: fewest that can be trained with.
        budget_s: seconds to spend.
        clock: seconds from any origin.

    Raises:
        ConfigError: the data do not make a window.
    """
    plan = parts_plan(min(effective_batch_size, setup.num_items), most_micro_batch, least_micro_batch)
    listener = NoiseScale(
        setup.model,
        optimizer=setup.optimizer,
        num_items=setup.num_items if setup.count is None else None,
        decay=DECAY,
    )
    accumulator = Accumulator(setup.model, setup.optimizer, plan=plan, count=setup.count or count_items)
    accumulator.listeners.append(listener)
    num_valid = num_steps = 0
    began_at = clock()
    try:
        for micro_batches in whole_windows(setup, plan):
            result = accumulator.step(micro_batches, setup.loss)
            num_valid, num_steps = num_valid + result.num_valid, num_steps + 1
            if num_steps >= LEAST_WINDOWS and (_known(listener.estimate()) or clock() - began_at > budget_s):
                break
    finally:
        listener.close()
    return MeasuredNoise(
        estimate=listener.estimate(),
        valid_per_item=num_valid / (num_steps * plan.effective_batch_size),
        num_steps=num_steps,
        batch_size=plan.effective_batch_size,
    )


def parts_plan(effective_batch_size: int, most_micro_batch: int, least_micro_batch: int = 1) -> BatchPlan:
    """Cut about an effective batch into equal micro-batches that tell the noise.

    Args:
        effective_batch_size: items of a step, about.
        most_micro_batch: most items that fit in memory.
        least_micro_batch: fewest that can be trained with.

    Raises:
        ConfigError: there are not two such micro-batches.

    >>> print(parts_plan(1000, 64), "|", parts_plan(5, 64))
    effective batch 992 = 16 x 62 | effective batch 5 = 5 x 1
    """
    most_parts = effective_batch_size // least_micro_batch
    if most_parts < 2:  # noqa: PLR2004 - one says nothing of scatter
        raise ConfigError(
            f"a batch of {effective_batch_size} is one micro-batch, which says nothing of the noise of gradients: "
            f"measure with a batch of {2 * least_micro_batch} or more, or give the scale"
        )
    num_parts = min(most_parts, max(NUM_PARTS, -(-effective_batch_size // most_micro_batch)))
    return BatchPlan.of(micro_batch_size=effective_batch_size // num_parts, num_accumulation_steps=num_parts)


def _known(estimate: NoiseEstimate) -> bool:
    if estimate.num_windows < ENOUGH_WINDOWS or not estimate.identified:
        return False
    return estimate.high <= NARROW * estimate.low
