"""When the batch grows, and when it does not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.estimate import NoiseAverages, NoiseEstimate
from carpool.train.noise.listener import NoiseScale
from carpool.train.noise.warm_up import BatchWarmUp
from carpool.train.scaling.apply import scale_hyperparameters

PLAN = BatchPlan(effective_batch_size=64, micro_batch_size=16)


def _estimate(low: float, *, num_windows: int = 100, identified: bool = True) -> NoiseEstimate:
    high = 2 * low if identified else float("inf")
    return NoiseEstimate(
        noise_scale=1.5 * low,
        low=low,
        high=high,
        S=1.5 * low,
        G2=1.0,
        num_windows=num_windows,
        confidence=0.95,
        identified=identified,
    )


def test_batch_doubles_once_the_noise_scale_has_surely_reached_the_larger_one() -> None:
    """The lower end of the interval decides; the micro-batch stays."""
    warm_up = BatchWarmUp(plan=PLAN, most=1024)
    assert warm_up.after(_estimate(127)) is warm_up
    grown = warm_up.after(_estimate(128))
    assert str(grown.plan) == "effective batch 128 = 8 x 16"


def test_batch_grows_one_step_at_a_time() -> None:
    """However large the noise scale, the next step waits until enough windows of the new size were seen."""
    warm_up = BatchWarmUp(plan=PLAN, most=1024, hold_windows=50).after(_estimate(1e6, num_windows=60))
    assert warm_up.batch_size == 128
    assert warm_up.after(_estimate(1e6, num_windows=109)).batch_size == 128
    assert warm_up.after(_estimate(1e6, num_windows=110)).batch_size == 256


def test_batch_grows_no_further_than_it_may() -> None:
    """The last step is a shorter one, of whole micro-batches, and the noise scale must have reached only that."""
    warm_up = BatchWarmUp(plan=PLAN, most=100)
    assert warm_up.after(_estimate(95)).batch_size == 64
    full = warm_up.after(_estimate(96))
    assert full.batch_size == 96
    assert full.after(_estimate(1e6, num_windows=10**6)) is full


def test_batch_never_shrinks() -> None:
    """A noise scale that falls changes nothing."""
    warm_up = BatchWarmUp(plan=PLAN, most=1024)
    assert warm_up.after(_estimate(1.0)) is warm_up


def test_lower_end_suffices_where_nothing_else_is_identified() -> None:
    """A gradient that its noise hides has a noise scale above what is known; before anything is, nothing grows."""
    warm_up = BatchWarmUp(plan=PLAN, most=1024)
    assert warm_up.after(_estimate(128, identified=False)).batch_size == 128
    assert warm_up.after(NoiseAverages().estimate()) is warm_up


def test_small_batches_grow_by_an_item_at_least() -> None:
    """Factors below 2 do not get stuck; a batch that is no whole number of micro-batches need not become one."""
    small = BatchWarmUp(plan=BatchPlan(effective_batch_size=1, micro_batch_size=1), most=4, times=1.1)
    assert small.after(_estimate(100)).batch_size == 2
    uneven = BatchWarmUp(plan=BatchPlan(effective_batch_size=10, micro_batch_size=4), most=64, times=1.1)
    assert uneven.after(_estimate(100)).batch_size == 11
    ranks = BatchWarmUp(plan=BatchPlan(effective_batch_size=8, micro_batch_size=4, num_ranks=2), most=64, times=1.1)
    assert ranks.after(_estimate(100)).batch_size == 16


def test_warm_up_survives_a_checkpoint() -> None:
    """Size and patience are what they were."""
    warm_up = BatchWarmUp(plan=PLAN, most=1024)
    grown = warm_up.after(_estimate(500))
    assert warm_up.restored(grown.state_dict()) == grown
    for state in ({}, {"plan": {"effective_batch_size": 8}, "grown_at": 0}, {"plan": PLAN.state_dict()}):
        with pytest.raises(ConfigError, match="the checkpoint's"):
            warm_up.restored(state)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"most": 63}, "most is 63, and the effective batch is 64 already"),
        ({"most": 0}, "most is 0"),
        ({"times": 1.0}, r"times is 1.0; it must be above 1"),
        ({"times": float("nan")}, "times is nan"),
        ({"times": float("inf")}, "times is inf"),
        ({"times": "2"}, "times is '2'"),
        ({"hold_windows": 0}, "hold_windows is 0"),
    ],
)
def test_knobs_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    """Each by its name and value."""
    with pytest.raises(ConfigError, match=said):
        BatchWarmUp(plan=PLAN, **({"most": 1024} | wrong))


def test_batch_grows_while_a_model_trains() -> None:
    """Linear regression with noise in its targets: as the gradient fades beneath the noise, the batch grows with it."""
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    warm_up = BatchWarmUp(plan=BatchPlan(effective_batch_size=16, micro_batch_size=4), most=64, hold_windows=20)
    accumulator, noise = Accumulator(model, optimizer, plan=warm_up.plan), NoiseScale(model, decay=0.95)
    accumulator.listeners.append(noise)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        inputs = torch.randn(4, 8)
        return inputs, inputs.sum(1, keepdim=True) + torch.randn(4, 1)

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.as_tensor((model(batch[0]) - batch[1]).square().sum())

    sizes = []
    for _ in range(250):
        result = accumulator.step([batch() for _ in range(accumulator.plan.num_accumulation_steps)], loss)
        sizes.append(result.num_valid)
        grown = warm_up.after(noise.estimate())
        if grown is not warm_up:
            scale_hyperparameters(optimizer, grown.batch_size / warm_up.batch_size, again=True)
        warm_up, accumulator.plan = grown, grown.plan
    assert sizes == sorted(sizes)
    assert set(sizes) == {16, 32, 64}
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.04)
