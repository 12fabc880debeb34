"""Learning-rate schedules, which keep the rates that they began with and would bring them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from torch.optim import Optimizer

_LISTS = ("base_lrs", "_last_lr", "max_lrs", "min_lrs")
_NUMBERS = ("eta_min", "default_min_lr")


def check_schedule(scheduler: Any, optimizer: Optimizer, changing: AbstractSet[str]) -> None:
    """Refuse what a schedule would undo.

    Args:
        scheduler: that was given, or None.
        optimizer: whose hyper-parameters are scaled.
        changing: names of them.

    Raises:
        ConfigError: a schedule has the rates and was not given, is none, is of another optimiser, or sets the decays
            itself.
    """
    if scheduler is None and "lr" in changing and any("initial_lr" in group for group in optimizer.param_groups):
        raise ConfigError(
            "a schedule already holds this optimiser's learning rates, and would bring the old ones back: give "
            "scheduler=, or scale before the schedule is made"
        )
    of = getattr(_inner(scheduler), "optimizer", None)
    if scheduler is not None and of is None:
        raise ConfigError(
            f"scheduler is of type {type(scheduler).__name__}, no schedule of torch's, which would hold its optimiser: "
            "give the one that sets the learning rate"
        )
    if of is not None and of is not optimizer:
        raise ConfigError("the scheduler given is of another optimiser: give the one that was made for this optimiser")
    if "beta1" in changing and any("base_momentum" in group for group in optimizer.param_groups):
        raise ConfigError(
            "the schedule sets beta1 at each step, and would undo its scaling: make the schedule with "
            "cycle_momentum=False, or use rule='legw', which leaves the decays alone"
        )


def scale_schedule(scheduler: Any, ratio: float) -> None:
    """Multiply the learning rates that a schedule goes by, and those of the schedules in it.

    Args:
        scheduler: of torch, or one around it that has it as `scheduler`.
        ratio: to multiply by.
    """
    scheduler = _inner(scheduler)
    for name in _LISTS:
        if isinstance(rates := getattr(scheduler, name, None), list):
            setattr(scheduler, name, [rate * ratio for rate in rates])
    for name in _NUMBERS:
        if getattr(scheduler, name, None) is not None:
            setattr(scheduler, name, getattr(scheduler, name) * ratio)
    for part in getattr(scheduler, "_schedulers", ()):
        scale_schedule(part, ratio)


def _inner(scheduler: Any) -> Any:
    """The schedule itself, where a framework has put something around it."""
    while hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler
    return scheduler
