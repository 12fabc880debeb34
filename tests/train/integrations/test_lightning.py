"""In Lightning a window learns what one pass over all its items would, and its noise scale is logged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.integrations.lightning import CarpoolCallback
from carpool.train.noise.listener import NoiseScale

if TYPE_CHECKING:
    from pathlib import Path

# Lightning's own: how it asks torch about trees, and its advice on workers, which these few items do not need.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
NUM_ITEMS = 14
WHOLE = BatchPlan(effective_batch_size=6, micro_batch_size=6)
PARTS = BatchPlan(effective_batch_size=6, micro_batch_size=2)


class Module(LightningModule):
    """A model whose loss is the mean over the labels that count."""

    def __init__(self, *, automatic: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3, dtype=torch.float64)
        self.automatic_optimization = automatic

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """Give the loss."""
        return cross_entropy(self.layer(batch[0]).flatten(0, 1), batch[1].flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Give the optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.5, momentum=0.9)


class Memory(Logger):
    """A logger that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[dict[str, float]] = []

    @property
    def name(self) -> str:
        """What it is called."""
        return "memory"

    @property
    def version(self) -> int:
        """There is one."""
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Remember them."""
        self.logged.append(metrics)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Forget them."""


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


def fit(callback: CarpoolCallback, *, module: Module | None = None, **options: Any) -> torch.Tensor:
    """Train for two epochs, and give the weights."""
    module = module or Module()
    how = options.pop("loader", {"batch_size": callback.micro_batch_size})
    usual: dict[str, Any] = {"max_epochs": 2, "gradient_clip_val": 1.0, "logger": False, "log_every_n_steps": 1}
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[callback, *options.pop("others", [])],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **usual | options,
    )
    trainer.fit(module, DataLoader(data(), **how))
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lightning writes where it is."""
    monkeypatch.chdir(tmp_path)


def test_a_window_is_learnt_as_one_batch() -> None:
    """Three micro-batches of two learn what one of six does, clipped once, the short last window too."""
    callback = CarpoolCallback(PARTS, count=count)
    torch.testing.assert_close(fit(callback), fit(CarpoolCallback(WHOLE, count=count)), rtol=0, atol=1e-12)
    assert callback.estimate().num_windows == 4  # the last of an epoch has one micro-batch


def test_a_window_is_what_the_accumulator_learns() -> None:
    """To the last digits, and with the same noise scale."""
    callback = CarpoolCallback(PARTS, count=count, decay=1.0)
    learnt = fit(callback)
    module = Module()
    accumulator = Accumulator(module, module.configure_optimizers(), plan=PARTS, count=count, max_norm=1.0)
    noise = NoiseScale(module, decay=1.0)
    accumulator.listeners.append(noise)

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        return module.training_step(batch, 0) * count(batch)

    batches = list(DataLoader(data(), batch_size=2))
    for _ in range(2):
        for start in range(0, len(batches), 3):
            accumulator.step(batches[start : start + 3], loss)
    expected = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    torch.testing.assert_close(learnt, expected, rtol=0, atol=1e-6)
    assert callback.estimate().low == pytest.approx(noise.estimate().low, rel=1e-6, abs=1e-9)
    assert callback.estimate().noise_scale == pytest.approx(noise.estimate().noise_scale, rel=1e-6)


def test_mixed_precision_changes_neither_what_is_learnt_nor_the_noise() -> None:
    """Its factor is taken out of both; this layer is in float64, which autocast leaves as it is."""
    plain, mixed = (CarpoolCallback(PARTS, count=count, decay=1.0) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
    precision = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    torch.testing.assert_close(fit(mixed, plugins=[precision]), fit(plain), rtol=0, atol=1e-12)
    assert scaler.get_scale() == 64
    assert mixed.estimate().low == pytest.approx(plain.estimate().low)
    assert mixed.estimate().noise_scale == pytest.approx(plain.estimate().noise_scale)


def test_loggers_are_told_of_each_window() -> None:
    """Of the effective batch and the gradient's norm before it is clipped; of the noise scale once it is known."""
    memory = Memory()
    fit(CarpoolCallback(PARTS, count=count), logger=memory, max_epochs=20)
    told = [metrics for metrics in memory.logged if "grad_norm" in metrics]
    assert len(told) == 60
    assert {metrics["effective_batch_size"] for metrics in told} == {6}
    assert "noise_scale_low" in told[-1]


def test_a_checkpoint_keeps_the_noise_scale() -> None:
    """It goes on with the same effective batch, in other micro-batches if need be, and with no other batch."""
    first = CarpoolCallback(PARTS, count=count)
    fit(first)
    second = CarpoolCallback(WHOLE, count=count)
    second.load_state_dict(first.state_dict())
    assert second.estimate() == first.estimate()
    other = CarpoolCallback(BatchPlan(effective_batch_size=8, micro_batch_size=2))
    with pytest.raises(
        ConfigError, match="trained with an effective batch of 6, and the plan says 8: plan for 6, which"
    ):
        other.load_state_dict(first.state_dict())


@pytest.mark.parametrize("batch_size", [1, 3, 6])
def test_a_loader_of_another_size_is_refused(batch_size: int) -> None:
    """Its windows would not have the effective batch."""
    with pytest.raises(
        ConfigError, match=r"a window holds .* items, and the plan is effective batch 6 .* batch_size=2"
    ):
        fit(CarpoolCallback(PARTS), loader={"batch_size": batch_size})


def test_steps_of_accumulation_that_change_are_refused() -> None:
    """A schedule of them would change the effective batch."""
    schedule = GradientAccumulationScheduler({0: 2})
    with pytest.raises(
        ConfigError, match="accumulate_grad_batches was changed to 2, and the plan is effective batch 6"
    ):
        fit(CarpoolCallback(WHOLE, count=count), others=[schedule])


def test_a_run_may_follow_another() -> None:
    """With the same callback, also after one that failed."""
    callback = CarpoolCallback(PARTS, count=lambda batch: 0)
    with pytest.raises(ConfigError):
        fit(callback)
    callback._count = count
    torch.testing.assert_close(fit(callback), fit(CarpoolCallback(WHOLE, count=count)), rtol=0, atol=1e-12)


def test_a_micro_batch_without_valid_items_is_refused() -> None:
    """Its mean is no number, and would make the whole window none."""
    with pytest.raises(ConfigError, match="a micro-batch has no valid item, and its mean is no number: leave it out"):
        fit(CarpoolCallback(PARTS, count=lambda batch: 0))


def test_manual_optimization_is_refused() -> None:
    """There the module steps by itself, and its windows are its own."""
    with pytest.raises(ConfigError, match="automatic_optimization is False: use one device or DDP, and automatic"):
        fit(CarpoolCallback(PARTS), module=Module(automatic=False), gradient_clip_val=None)


def test_other_ranks_than_planned_are_refused() -> None:
    """The message says how to keep the effective batch."""
    with pytest.raises(ConfigError, match=r"the plan has 2 ranks, and Lightning 1: use plan.with_ranks\(1\)"):
        fit(CarpoolCallback(PARTS.with_ranks(2)))
