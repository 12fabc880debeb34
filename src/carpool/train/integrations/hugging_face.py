"""In Hugging Face's Trainer: the planned batch held, its mean exact, the noise scale in the logs.

Around a Trainer as it is::

    plan = BatchPlan(effective_batch_size=1024, micro_batch_size=found.size)
    arguments = hold(TrainingArguments(...), plan)
    trainer = Trainer(model, arguments, train_dataset=...)
    CarpoolCallback(plan).install(trainer)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.nn.utils import clip_grads_with_norm_
from transformers import TrainerCallback
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from carpool.errors import ConfigError
from carpool.train.integrations.host import HostWindow, equal_micro_batches, metrics_of, norm_of
from carpool.train.noise.estimate import NoiseAverages, NoiseEstimate
from carpool.train.replay import Replay

if TYPE_CHECKING:
    from torch import nn
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    from carpool.train.batch_plan import BatchPlan

Count = Callable[[Mapping[str, Any]], int]

_LOG = logging.getLogger(__name__)
_IGNORED = -100
_LESS = 0.9  # a loss is halved by twice the items, but for what in it does not depend on labels


class LossKind(Enum):
    """What the loss of a model does with the number of items that a window has."""

    EXACT = "The model divides its loss by the items of the whole window, as Trainer tells it: that is exact."
    DEAF = (
        "The model is told the items of the whole window, and its loss ignores them, so that a window's gradient would "
        "be the sum of its micro-batches' means: its losses are weighted by their items."
    )
    MEAN = (
        "The model is not told the items of the whole window, so that a window's gradient would be the mean of its "
        "micro-batches' means: its losses are weighted by their items, and divided at the window's end."
    )
    OWN = (
        "The model is given no labels or returns no loss: whether the mean over a window is exact is up to the loss "
        "function, which is given num_items_in_batch; the noise scale is not measured."
    )


def hold(arguments: TrainingArguments, plan: BatchPlan) -> TrainingArguments:
    """Set the batch size of a device and the steps of accumulation, so that a window has exactly the effective batch.

    Args:
        arguments: changed in place; to be given to the Trainer afterwards.
        plan: its micro-batch is the most items of a pass; Trainer's are all alike, and may have to be smaller.

    Returns:
        The same arguments.

    Raises:
        ConfigError: there are other ranks than planned, or they cannot have equal shares.
    """
    if arguments.world_size != plan.num_ranks or arguments.n_gpu > 1:
        raise ConfigError(
            f"the plan has {plan.num_ranks} ranks, and Trainer {arguments.world_size} with {max(1, arguments.n_gpu)} "
            f"devices each: use plan.with_ranks({arguments.world_size}), and start a process a device with torchrun"
        )
    size, num_steps = equal_micro_batches(plan)
    arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps = size, num_steps
    return arguments


class CarpoolCallback(TrainerCallback):
    """Holds Trainer to a plan, makes the mean over a window exact, and measures the noise scale.

    Trainer's own mean is exact only for models that divide by the number of items which it tells them. Others average
    each micro-batch for itself; some of them say that they listen and do not, so that the gradient is too large by the
    number of micro-batches. At the first pass the callback finds out which of them the model is, and mends it by a hook
    on its output; `loss_kind` tells.

    It clips the gradient in Trainer's stead, by the same `max_grad_norm`, since it needs the norm before.

    Args:
        plan: what `hold` was given.
        count: valid items of the inputs that the model is called with; by default the labels that count.
        num_items: valid items of the training data, for the noise scale; None where they are far more than it.
        decay: of earlier windows in the noise scale.
    """

    def __init__(
        self, plan: BatchPlan, *, count: Count | None = None, num_items: int | None = None, decay: float = 0.99
    ) -> None:
        self.plan = plan
        self.loss_kind: LossKind | None = None
        self._averages = NoiseAverages(num_items=num_items, decay=decay)
        self._count = count
        self._window: HostWindow | None = None
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._num_valid: int | None = None  # of the micro-batch under way
        self._reference = 0.0  # items that a loss of LossKind.MEAN is weighted against
        self._max_norm = 0.0

    def estimate(self) -> NoiseEstimate:
        """Say what is known of the noise scale."""
        return self._averages.estimate()

    def install(self, trainer: Trainer) -> Self:
        """Add it to a Trainer, before those that report what it adds to the logs.

        Args:
            trainer: made with what `hold` returned.
        """
        trainer.add_callback(self)
        callbacks = trainer.callback_handler.callbacks
        callbacks.insert(0, callbacks.pop())
        return self

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the batch, watch the model, and take over clipping.

        Raises:
            ConfigError: Trainer would train with another effective batch, or in a way that cannot be watched.
        """
        if self._window is not None:
            self._leave(args)  # a run that failed
        self._check(args, state, kwargs.get("train_dataloader"))
        model: nn.Module = kwargs["model"]
        self.loss_kind = None
        self._window = HostWindow(model, num_ranks=self.plan.num_ranks, averages=self._averages)
        before = model.register_forward_pre_hook(self._foresee, with_kwargs=True)
        self._hooks = [before, model.register_forward_hook(self._weight, with_kwargs=True)]
        self._max_norm, args.max_grad_norm = args.max_grad_norm or 0.0, 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin a window."""
        self._open().begin()

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take in a micro-batch."""
        self._open().add(self._num_valid or 0)

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take in the last micro-batch, complete the gradient, and clip it."""
        window, optimizer = self._open(), kwargs["optimizer"]
        window.add(self._num_valid or 0)
        num_valid = window.num_valid()
        share = self.plan.num_ranks / max(1, num_valid)
        part = 1 / (self._reference * window.num_micro_batches) if self.loss_kind is LossKind.MEAN else share
        norm = norm_of(optimizer, share / part)
        if self.loss_kind is not LossKind.OWN and num_valid:
            window.end(num_valid=num_valid, scale=part * _mixed_precision(optimizer), grad_norm=norm)
        if self._max_norm:
            parameters = [one for group in optimizer.param_groups for one in group["params"]]
            clip_grads_with_norm_(parameters, self._max_norm, torch.tensor(norm))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the noise scale to what is logged of training."""
        logs = kwargs.get("logs")
        if logs is not None and "loss" in logs:
            told = metrics_of(self._averages, self.plan)
            logs.update(told)
            state.log_history[-1].update(told)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave the model and the arguments as they were."""
        self._leave(args)

    def _leave(self, args: TrainingArguments) -> None:
        args.max_grad_norm = self._max_norm
        for hook in self._hooks:
            hook.remove()
        self._open().close()
        self._window = None

    def _open(self) -> HostWindow:
        assert self._window is not None
        return self._window

    def _check(self, args: TrainingArguments, state: TrainerState, loader: Any) -> None:
        if args.deepspeed or args.fsdp:
            raise ConfigError(
                "Trainer shards the model: train with DistributedDataParallel, or without CarpoolCallback"
            )
        if args.auto_find_batch_size:
            raise ConfigError("auto_find_batch_size is on, and would change the effective batch: use find_micro_batch")
        at_once = getattr(loader, "total_batch_size", None) or args.train_batch_size * args.world_size
        made = at_once * args.gradient_accumulation_steps
        if made != self.plan.effective_batch_size:
            raise ConfigError(
                f"Trainer makes windows of {made} items, and the plan is {self.plan}: make it with what "
                "hold(arguments, plan) returns"
            )
        if args.world_size > 1 and not args.average_tokens_across_devices:
            raise ConfigError("average_tokens_across_devices is off, so that ranks' means are averaged: leave it on")
        before = next((log["effective_batch_size"] for log in state.log_history if "effective_batch_size" in log), None)
        if before not in {None, self.plan.effective_batch_size}:
            raise ConfigError(
                f"the checkpoint was trained with an effective batch of {before}, and the plan says "
                f"{self.plan.effective_batch_size}: plan for {before}, which the learning rate belongs to"
            )

    def _foresee(self, model: nn.Module, _: Any, inputs: dict[str, Any]) -> None:
        """Count a micro-batch; before the first, find out what the model does with the number of items."""
        if not model.training or not torch.is_grad_enabled():
            return
        self._num_valid = self._count(inputs) if self._count is not None else count_labels(model, inputs)
        if self.loss_kind is None:
            self.loss_kind = self._found_out(model, inputs)
            self._reference = self._open().share(self._num_valid or 1)
            _LOG.info(self.loss_kind.value)

    def _found_out(self, model: nn.Module, inputs: dict[str, Any]) -> LossKind:
        if self._num_valid is None:
            return LossKind.OWN
        if inputs.get("num_items_in_batch") is None:
            return LossKind.MEAN
        return LossKind.EXACT if _listens(model, inputs) else LossKind.DEAF

    def _weight(self, model: nn.Module, _: Any, inputs: dict[str, Any], output: Any) -> Any:
        """Weight a micro-batch's loss where it is not what the window wants."""
        if not model.training or not torch.is_grad_enabled():
            return None
        loss = _loss_of(output)
        if loss is None:
            self.loss_kind = LossKind.OWN
        if loss is None or self.loss_kind not in {LossKind.DEAF, LossKind.MEAN}:
            return None
        if not self._num_valid:
            raise ConfigError("a micro-batch has no label that counts, and its mean is no number: leave it out")
        whole = float(inputs["num_items_in_batch"]) if self.loss_kind is LossKind.DEAF else self._reference
        return _with_loss(output, loss * (self._num_valid / whole))


def count_labels(model: nn.Module, inputs: Mapping[str, Any]) -> int | None:
    """Labels that count, as Trainer counts them: without the first of a sequence where the loss shifts them.

    Args:
        model: that is called.
        inputs: what it is called with.

    Returns:
        None where there are no labels.
    """
    given = inputs.get("shift_labels", inputs.get("labels"))
    if not isinstance(given, torch.Tensor):
        return None
    base: Any = getattr(model, "get_base_model", lambda: model)()  # what an adapter wraps
    shifts = LOSS_MAPPING.get(getattr(base, "loss_type", None) or "") is ForCausalLMLoss
    encoder_decoder = getattr(getattr(base, "config", None), "is_encoder_decoder", False)
    if shifts and not encoder_decoder and "shift_labels" not in inputs:
        given = given[..., 1:]
    return int((given != _IGNORED).sum())


def _listens(model: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether a model's loss changes with the number of items: two passes more, with the same random numbers."""
    replay, num_items = Replay([model]), inputs["num_items_in_batch"]
    forward: Any = model.forward  # not the model itself, which would call our hook

    def size_for(num_items: Any) -> float:
        replay.at("pass")
        with torch.no_grad():
            loss = _loss_of(forward(**inputs | {"num_items_in_batch": num_items}))
        return 0.0 if loss is None else abs(float(loss))

    small, large = size_for(2 * num_items), size_for(num_items)
    replay.at("pass")
    replay.rewind()
    return small < _LESS * large


def _loss_of(output: Any) -> torch.Tensor | None:
    if isinstance(output, Mapping):
        loss = output.get("loss")
    else:
        loss = output[0] if isinstance(output, tuple) and output else None
    return loss if isinstance(loss, torch.Tensor) and loss.numel() == 1 else None


def _with_loss(output: Any, loss: torch.Tensor) -> Any:
    if isinstance(output, tuple):
        return (loss, *output[1:])
    output["loss"] = loss
    return output


def _mixed_precision(optimizer: Any) -> float:
    """The factor that losses were multiplied with under float16."""
    scaler = getattr(optimizer, "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else 1.0
