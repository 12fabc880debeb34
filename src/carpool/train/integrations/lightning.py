"""In Lightning's Trainer: the planned batch held, its mean exact, the noise scale in the logs.

Beside a module as it is::

    plan = BatchPlan(effective_batch_size=1024, micro_batch_size=found.size)
    callback = CarpoolCallback(plan, count=count_labels)
    trainer = Trainer(callbacks=[callback], ...)
    trainer.fit(module, DataLoader(..., batch_size=callback.micro_batch_size))

A loader with a sampler of `carpool.train.data` knows of ranks: there, give the Trainer `use_distributed_sampler=False`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.integrations.host import HostWindow, equal_micro_batches, metrics_of, norm_of
from carpool.train.noise.estimate import NoiseAverages, NoiseEstimate
from carpool.train.setup import count_items

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from lightning.pytorch import LightningModule, Trainer


class CarpoolCallback(Callback):
    """Holds Lightning to a plan, makes the mean over a window exact, and measures the noise scale.

    Lightning divides each micro-batch's mean by the number of micro-batches, also in a last window that has fewer. Here
    each is weighted by its valid items, and the gradient divided by those of the whole window, over all ranks, before
    it is clipped. `training_step` returns the mean over a micro-batch's valid items, as ever; the loss that Lightning
    shows is not changed.

    Args:
        plan: the effective batch, and how it is made up; its micro-batch is the most items of a pass.
        count: valid items of a micro-batch, over which `training_step` takes the mean.
        num_items: valid items of the training data, for the noise scale; None where they are far more than it.
        decay: of earlier windows in the noise scale.

    Raises:
        ConfigError: the ranks cannot have equal shares of the effective batch.
    """

    def __init__(
        self,
        plan: BatchPlan,
        *,
        count: Callable[[Any], int] = count_items,
        num_items: int | None = None,
        decay: float = 0.99,
    ) -> None:
        self.plan = plan
        self.micro_batch_size, self._num_steps = equal_micro_batches(plan)
        self._count = count
        self._averages = NoiseAverages(num_items=num_items, decay=decay)
        self._window: HostWindow | None = None
        self._num_valid = 0

    def estimate(self) -> NoiseEstimate:
        """Say what is known of the noise scale."""
        return self._averages.estimate()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the steps of accumulation.

        Raises:
            ConfigError: Lightning trains with other ranks than planned, or in a way that cannot be held.
        """
        if stage != "fit":
            return
        if not isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy) or not pl_module.automatic_optimization:
            raise ConfigError(
                f"Lightning trains with {type(trainer.strategy).__name__}, and automatic_optimization is "
                f"{pl_module.automatic_optimization}: use one device or DDP, and automatic optimization"
            )
        if trainer.world_size != self.plan.num_ranks:
            raise ConfigError(
                f"the plan has {self.plan.num_ranks} ranks, and Lightning {trainer.world_size}: use "
                f"plan.with_ranks({trainer.world_size}), which keeps the effective batch"
            )
        trainer.accumulate_grad_batches = self._num_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the model."""
        if self._window is not None:
            self._window.close()  # of a run before
        self._window = HostWindow(pl_module, num_ranks=self.plan.num_ranks, averages=self._averages)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Count a micro-batch, and begin a window with it if it is the first."""
        self._num_valid = self._count(batch)
        if not self._open().num_micro_batches:
            self._open().begin()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: torch.Tensor) -> None:
        """Weight the loss by the micro-batch's valid items.

        Raises:
            ConfigError: it has none.
        """
        if not self._num_valid:
            raise ConfigError("a micro-batch has no valid item, and its mean is no number: leave it out")
        loss.mul_(self._num_valid / self._reference)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in the micro-batch."""
        self._open().add(self._num_valid)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Divide the gradient by the window's valid items, before it is clipped, and log the noise scale."""
        window = self._open()
        num_valid = window.num_valid()
        self._check(trainer, num_valid)
        part = 1 / (self._reference * self._num_steps)
        norm = norm_of(optimizer, self.plan.num_ranks / num_valid / part)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        factor = float(scaler.get_scale()) if scaler is not None else 1.0
        window.end(num_valid=num_valid, scale=part * factor, grad_norm=norm)
        pl_module.log_dict(metrics_of(self._averages, self.plan) | {"grad_norm": norm}, on_step=True, on_epoch=False)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the model as it was."""
        if self._window is not None:
            self._window.close()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"plan": self.plan.state_dict(), "noise": self._averages.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state_dict: from `state_dict`.

        Raises:
            ConfigError: it was trained with another effective batch.
        """
        then = BatchPlan.from_state_dict(state_dict["plan"]).effective_batch_size
        if then != self.plan.effective_batch_size:
            raise ConfigError(
                f"the checkpoint was trained with an effective batch of {then}, and the plan says "
                f"{self.plan.effective_batch_size}: plan for {then}, which the learning rate belongs to"
            )
        self._averages.load_state_dict(state_dict["noise"])

    @property
    def _reference(self) -> int:
        """What losses are weighted against: about the items of a micro-batch, so that float16 does not overflow."""
        return self.micro_batch_size

    def _open(self) -> HostWindow:
        assert self._window is not None
        return self._window

    def _check(self, trainer: Trainer, num_valid: int) -> None:
        """Refuse windows of other sizes than planned, where items are counted rather than something in them."""
        if trainer.accumulate_grad_batches != self._num_steps:
            raise ConfigError(
                f"accumulate_grad_batches was changed to {trainer.accumulate_grad_batches}, and the plan is "
                f"{self.plan}: leave GradientAccumulationScheduler out"
            )
        wanted, is_last = self.plan.effective_batch_size, trainer.is_last_batch
        if self._count is count_items and (num_valid > wanted or (num_valid < wanted and not is_last)):
            raise ConfigError(
                f"a window holds {num_valid} items, and the plan is {self.plan}: make the loader with "
                f"batch_size={self.micro_batch_size}"
            )
