"""In a loop with Hugging Face Accelerate: what it prepared, accumulated exactly.

Accelerate's own `accumulate()` divides each micro-batch's mean by their number, so that a window's gradient is the mean
of means: micro-batches with few valid items, and short last windows, count too much. An `Accumulator` takes its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler
from accelerate.utils import DistributedType

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.noise.listener import NoiseScale

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import nn
    from torch.optim.lr_scheduler import LRScheduler

    from carpool.train.batch_plan import BatchPlan
    from carpool.train.window import WindowResult

_KNOWN = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU, DistributedType.FSDP)


def accumulator_for(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    plan: BatchPlan,
    scheduler: LRScheduler | None = None,
    **options: Any,
) -> Accumulator:
    """Make an accumulator of what an Accelerator has prepared: its wrapper, its mixed precision, its trackers.

    Each window is logged to the Accelerator's trackers, with the noise scale where a `NoiseScale` is added to the
    accumulator's `listeners`. In the loop, `window.backward(loss)` or `accumulator.step` replaces
    `accelerator.backward` and `accelerator.accumulate`. A loader with a sampler of `carpool.train.data` knows of ranks,
    and is not prepared.

    Args:
        accelerator: that prepared the rest.
        model: as `prepare` returned it.
        optimizer: as `prepare` returned it.
        plan: the effective batch, and how it is made up.
        scheduler: of the learning rate, as `prepare` returned it; stepped once a window.
        options: of `Accumulator`: `count`, `max_norm`, `loss_is`, `on_window`.

    Raises:
        ConfigError: the Accelerator trains in a way of its own, or with other ranks than planned.
    """
    if accelerator.distributed_type not in _KNOWN:
        raise ConfigError(
            f"the Accelerator trains with {accelerator.distributed_type.value}, which steps by itself: use "
            "DistributedDataParallel or fully_shard (FSDP version 2)"
        )
    if accelerator.num_processes != plan.num_ranks:
        raise ConfigError(
            f"the plan has {plan.num_ranks} ranks, and the Accelerator {accelerator.num_processes}: use "
            f"plan.with_ranks({accelerator.num_processes}), which keeps the effective batch"
        )
    on_window = options.pop("on_window", None)

    def tell(result: WindowResult) -> None:
        accelerator.log(_metrics_of(accumulator, result), step=accumulator.num_windows)
        if on_window is not None:
            on_window(result)

    accumulator = Accumulator(
        model,
        optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer,
        plan=plan,
        scheduler=scheduler.scheduler if isinstance(scheduler, AcceleratedScheduler) else scheduler,
        scaler=accelerator.scaler,
        on_window=tell,
        **options,
    )
    return accumulator


def _metrics_of(accumulator: Accumulator, result: WindowResult) -> dict[str, float]:
    told: dict[str, float] = {
        "loss": result.loss,
        "grad_norm": result.grad_norm,
        "num_valid": result.num_valid,
        "effective_batch_size": accumulator.plan.effective_batch_size,
    }
    for listener in accumulator.listeners:
        if isinstance(listener, NoiseScale) and (estimate := listener.estimate()).identified:
            told |= {"noise_scale": estimate.noise_scale}
    return told
