"""With Accelerate a window learns what one pass over all its items would, and trackers are told of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, on_main_process
from accelerate.utils import DistributedType
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.windows import EffectiveBatchSampler
from carpool.train.integrations.accelerate import accumulator_for
from carpool.train.noise.listener import NoiseScale

if TYPE_CHECKING:
    from carpool.train.window import WindowResult

NUM_ITEMS = 14


class Memory(GeneralTracker):  # type: ignore[misc]
    """A tracker that remembers."""

    name = "memory"
    requires_logging_directory = False

    @on_main_process  # type: ignore[untyped-decorator]
    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int | None, dict[str, float]]] = []

    @property
    def tracker(self) -> Memory:
        """Itself."""
        return self

    @on_main_process  # type: ignore[untyped-decorator]
    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Forget it."""

    @on_main_process  # type: ignore[untyped-decorator]
    def log(self, values: dict[str, float], step: int | None, **kwargs: Any) -> None:
        """Remember it."""
        self.logged.append((step, values))


def data() -> TensorDataset:
    """Items with several labels each, of which some do not count."""
    chance = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (NUM_ITEMS, 5), generator=chance)
    counts = torch.arange(5) <= torch.arange(NUM_ITEMS)[:, None] % 5
    return TensorDataset(
        torch.randn(NUM_ITEMS, 5, 4, generator=chance, dtype=torch.float64), labels.where(counts, -100)
    )


def count(batch: Any) -> int:
    """Labels that count."""
    return int((batch[1] >= 0).sum())


def loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """Summed over them."""
    return cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten(), reduction="sum")


def train(plan: BatchPlan, tracker: Memory | None = None, **options: Any) -> torch.Tensor:
    """Train for two epochs, and give the weights."""
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("training")
    model: nn.Module = nn.Linear(4, 3, dtype=torch.float64)
    optimizer: Any = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    scheduler: Any = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.9)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    accumulator = accumulator_for(
        accelerator, model, optimizer, plan=plan, scheduler=scheduler, count=count, max_norm=1.0, **options
    )
    accumulator.listeners.append(NoiseScale(model))
    sampler = EffectiveBatchSampler(NUM_ITEMS, plan, rank=accelerator.process_index)
    loader: DataLoader[Any] = DataLoader(data(), batch_sampler=sampler)
    for _ in range(2):
        for window in accumulator.windows(loader):
            for batch in window:
                window.backward(loss(model, batch))
    assert scheduler.get_last_lr() == [pytest.approx(0.5 * 0.9**6)]
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_window_is_learnt_as_one_batch() -> None:
    """Three micro-batches of two learn what one of six does, clipped and scheduled once a window, the last one too."""
    whole = train(BatchPlan(effective_batch_size=6, micro_batch_size=6))
    parts = train(BatchPlan(effective_batch_size=6, micro_batch_size=2))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-12)


def test_trackers_are_told_of_each_window() -> None:
    """And so is the caller."""
    tracker = Memory()
    results: list[WindowResult] = []
    train(BatchPlan(effective_batch_size=6, micro_batch_size=2), tracker, on_window=results.append)
    assert [step for step, _ in tracker.logged] == [1, 2, 3, 4, 5, 6]
    assert [values["loss"] for _, values in tracker.logged] == [result.loss for result in results]
    assert {values["effective_batch_size"] for _, values in tracker.logged} == {6}


def test_noise_scale_is_tracked_once_it_is_known() -> None:
    """It takes windows of several micro-batches, whose gradients agree."""
    torch.manual_seed(0)
    tracker = Memory()
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("training")
    model, optimizer = accelerator.prepare(m := nn.Linear(2, 1), torch.optim.SGD(m.parameters(), lr=0.0))
    accumulator = accumulator_for(
        accelerator, model, optimizer, plan=BatchPlan(effective_batch_size=32, micro_batch_size=8)
    )
    noise = NoiseScale(model)
    accumulator.listeners.append(noise)
    for _ in range(40):
        accumulator.step(torch.randn(4, 8, 2).unbind(), lambda model, batch: (model(batch) - 3).square().sum())
    assert tracker.logged[-1][1]["noise_scale"] == noise.estimate().noise_scale


def test_other_ranks_than_planned_are_refused() -> None:
    """The message says how to keep the effective batch."""
    model = nn.Linear(2, 1)
    plan = BatchPlan(effective_batch_size=6, micro_batch_size=2, num_ranks=2)
    with pytest.raises(ConfigError, match=r"the plan has 2 ranks, and the Accelerator 1: use plan.with_ranks\(1\)"):
        accumulator_for(Accelerator(cpu=True), model, torch.optim.SGD(model.parameters()), plan=plan)


def test_an_engine_that_steps_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DeepSpeed accumulates inside its own backward."""
    accelerator, model = Accelerator(cpu=True), nn.Linear(2, 1)
    monkeypatch.setattr(Accelerator, "distributed_type", DistributedType.DEEPSPEED)
    with pytest.raises(ConfigError, match="the Accelerator trains with DEEPSPEED, which steps by itself: use"):
        accumulator_for(
            accelerator,
            model,
            torch.optim.SGD(model.parameters()),
            plan=BatchPlan(effective_batch_size=6, micro_batch_size=2),
        )
