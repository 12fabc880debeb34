"""A loader with one of these samplers tells the accumulator its windows."""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.buckets import LengthBucketSampler
from carpool.train.data.token_budget import TokenBudgetSampler
from carpool.train.data.windows import EffectiveBatchSampler, WindowSampler

LENGTHS = [3, 9, 4, 1, 7, 7, 2, 5, 6, 8, 1, 1, 2, 9]
PLAN = BatchPlan(effective_batch_size=4, micro_batch_size=3)
SAMPLERS = [
    EffectiveBatchSampler(len(LENGTHS), PLAN),
    LengthBucketSampler(LENGTHS, PLAN, pool_windows=1),
    TokenBudgetSampler(LENGTHS, PLAN, token_budget=10),
]


class Ahead:
    """A loader that fetches ahead, as one with workers does."""

    def __init__(self, data: TensorDataset, sampler: WindowSampler) -> None:
        self.data, self.batch_sampler = data, sampler

    def __iter__(self) -> Iterator[Any]:
        """Give the micro-batches, each when three more were asked for."""
        waiting: deque[Any] = deque()
        for indices in self.batch_sampler:
            waiting.append(self.data[indices])
            if len(waiting) == 4:
                yield waiting.popleft()
        yield from waiting


def squares(model: nn.Module, batch: Any) -> torch.Tensor:
    """The loss, summed over a micro-batch."""
    (x,) = batch
    loss: torch.Tensor = (model(x) - 1).square().sum()
    return loss


def trained(sampler: WindowSampler, plan: BatchPlan) -> tuple[list[tuple[int, int]], torch.Tensor]:
    """An epoch: the valid items and the micro-batches of each window, and what was learnt."""
    torch.manual_seed(0)
    model = nn.Linear(3, 1, dtype=torch.float64)
    data = TensorDataset(torch.randn(len(LENGTHS), 3, dtype=torch.float64))
    loader: DataLoader[Any] = DataLoader(data, batch_sampler=sampler)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=plan)
    told = []
    for window in accumulator.windows(loader):
        for batch in window:
            window.backward(squares(model, batch))
        told.append((window.result.num_valid, window.result.num_micro_batches))
    return told, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_each_sampler_trains_on_its_windows(sampler: WindowSampler) -> None:
    """Random windows of four items are learnt alike, in as many micro-batches as each sampler makes of them."""
    sampler.set_epoch(0)
    num_micro_batches = [len(window) for window in sampler.windows(sampler)]
    sampler.set_epoch(0)
    told, learnt = trained(sampler, PLAN)
    assert [num_valid for num_valid, _ in told] == [4, 4, 4, 2]
    assert [num for _, num in told] == num_micro_batches
    whole = BatchPlan(effective_batch_size=4, micro_batch_size=4)
    torch.testing.assert_close(learnt, trained(EffectiveBatchSampler(len(LENGTHS), whole), whole)[1])


def test_effective_batch_may_grow_while_training() -> None:
    """The plan of sampler and accumulator changes between two windows, and each item is still learnt once."""
    sampler = EffectiveBatchSampler(14, PLAN)
    model = nn.Linear(3, 1)
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.randn(14, 3)), batch_sampler=sampler)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=PLAN)
    sizes = []
    for window in accumulator.windows(loader):
        for batch in window:
            window.backward(squares(model, batch))
        sizes.append(list(window.start.sizes))
        accumulator.plan = BatchPlan(effective_batch_size=8, micro_batch_size=3)
        sampler.set_plan(accumulator.plan)
    assert sizes == [[2, 2], [3, 3, 2], [2]]
    assert sum(chain.from_iterable(sizes)) == 14


@pytest.mark.parametrize(("size", "expected"), [(8, [4, 4, 4, 8]), (2, [4, 4, 4, 2, 2, 2, 2])])
@pytest.mark.filterwarnings("error:a window before the last")
def test_windows_that_were_fetched_ahead_are_held_to_the_plan_they_were_begun_by(
    size: int, expected: list[int]
) -> None:
    """Whether the effective batch grows or shrinks, those of the old plan are learnt as they are."""
    sampler = EffectiveBatchSampler(20, PLAN)
    data = TensorDataset(torch.randn(20, 3))
    loader = Ahead(data, sampler)
    model = nn.Linear(3, 1)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=PLAN)
    sizes = []
    for window in accumulator.windows(loader):
        for batch in window:
            window.backward(squares(model, batch))
        sizes.append(window.start.num_valid)
        accumulator.plan = BatchPlan(effective_batch_size=size, micro_batch_size=3)
        sampler.set_plan(accumulator.plan)
    assert sizes == expected


def test_a_plan_that_only_one_of_them_has_is_refused() -> None:
    """The accumulator's grew, and the sampler was not told."""
    sampler = EffectiveBatchSampler(14, PLAN)
    loader: DataLoader[Any] = DataLoader(TensorDataset(torch.randn(14, 3)), batch_sampler=sampler)
    model = nn.Linear(3, 1)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=PLAN)
    windows = accumulator.windows(loader)
    window = next(windows)
    for batch in window:
        window.backward(squares(model, batch))
    accumulator.plan = BatchPlan(effective_batch_size=8, micro_batch_size=3)
    with pytest.raises(ConfigError, match=r"the loader's sampler gives effective batch 4 .* and the plan is"):
        next(windows)
