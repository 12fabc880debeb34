"""Scale an optimiser's hyper-parameters to another effective batch, and say what was done and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.train.scaling.choose import choose, decays_apart
from carpool.train.scaling.groups import MARK, has, innermost, read, write
from carpool.train.scaling.notes import notes
from carpool.train.scaling.recipe import Recipe, ema_change
from carpool.train.scaling.report import ScalingReport
from carpool.train.scaling.rules import check_factor
from carpool.train.scaling.schedules import check_schedule, scale_schedule
from carpool.train.scaling.warm_up import warm_up

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from carpool.train.scaling.change import Change
    from carpool.train.scaling.rules import BetaForm

_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")


def scale_hyperparameters(
    optimizer: Optimizer,
    factor: float,
    *,
    rule: str = "auto",
    beta_form: BetaForm = "linear",
    scheduler: Any = None,
    ema: Any = None,
    warm_up_steps: int = 0,
    steps_per_epoch: int | None = None,
    apply: bool = True,
    again: bool = False,
) -> ScalingReport:
    """Set an optimiser's hyper-parameters to those that go with `factor` times the effective batch.

    All parameter groups are scaled, and nothing is changed where something is refused.

    Args:
        optimizer: whose hyper-parameters belong to the old batch.
        factor: new effective batch over the old one; below 1 for a smaller batch.
        rule: `linear`, `square_root`, `legw`, `weight_decay` (the learning rate stays), `none`, or `auto`: linear for
            SGD, square root for Adam, AdamW and RMSprop, LEGW for LAMB and LARS.
        beta_form: what becomes of Adam's decays: `linear`, which is refused where nothing would be left of one, or
            `power`, which goes on beyond.
        scheduler: of the learning rate, which holds the rates that it began with; it goes on by the new ones. It
            must be given where there is one.
        ema: an average of the weights, as an object with a `decay`, which is set; or the decay itself, for the report.
        warm_up_steps: steps of the warm-up until now, at the old batch; 0 for none.
        steps_per_epoch: steps of a pass over the data, at the new batch; a warm-up in epochs then has its steps.
        apply: whether to set the values; False only reports them.
        again: whether an optimiser that was scaled before may be scaled once more, from where it is now.

    Returns:
        What changed, why, by which source, how far that holds, and the warm-up that goes with it.

    Raises:
        ConfigError: a value is out of its range, no rule is known for the optimiser, it was scaled before, or a
            schedule would undo what is done.

    Source: `carpool.train.scaling.rules`.

    >>> import torch
    >>> optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))], lr=1e-3, weight_decay=0.1)
    >>> report = scale_hyperparameters(optimizer, 4)
    >>> [f"{name} {report.after(name):.4g}" for name in ("lr", "beta1", "beta2", "eps", "weight_decay")]
    ['lr 0.002', 'beta1 0.6', 'beta2 0.996', 'eps 5e-09', 'weight_decay 0.2']
    """
    factor = check_factor(factor)
    optimizer = innermost(optimizer)
    groups = _groups(optimizer)
    chosen = choose(rule, optimizer)
    _refuse_twice(groups, factor, again=again)
    recipe = Recipe(rule=chosen, factor=factor, beta_form=beta_form)
    changes = [
        change
        for index, group in enumerate(groups)
        for change in recipe.changes(group, index, decays_apart=decays_apart(optimizer, group))
    ]
    if apply:
        check_schedule(scheduler, optimizer, {change.name for change in changes})
    average = ema_change(ema, factor) if ema is not None and chosen.keeps_time_scale else ()
    report = ScalingReport(
        factor=factor,
        rule=chosen.name,
        changes=(*changes, *average),
        warm_up=warm_up(chosen, factor, num_steps=warm_up_steps, steps_per_epoch=steps_per_epoch),
        notes=notes(optimizer, chosen, factor, num_warm_up_steps=warm_up_steps),
        applied=apply,
    )
    if apply and report.changes:
        _apply(groups, report, ratio=chosen.rate(1.0, factor), scheduler=scheduler, ema=ema)
    return report


def _groups(optimizer: Any) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = getattr(optimizer, "param_groups", [])
    if not groups:
        raise ConfigError(f"{type(optimizer).__name__} has no parameter groups: give a torch optimiser")
    for index, group in enumerate(groups):
        if not has(group, "lr"):
            raise ConfigError(
                f"parameter group {index} of {type(optimizer).__name__} has no learning rate to scale, as it finds its "
                "own: give it one"
            )
    return groups


def _refuse_twice(groups: list[dict[str, Any]], factor: float, *, again: bool) -> None:
    marks = [group[MARK] for group in groups if MARK in group]
    if marks and not again:
        raise ConfigError(
            f"this optimiser was already scaled by {marks[0]:g}, and would be by {factor:g} once more, "
            f"{marks[0] * factor:g} in all: give again=True if that is meant"
        )


def _apply(groups: list[dict[str, Any]], report: ScalingReport, *, ratio: float, scheduler: Any, ema: Any) -> None:
    for change in report.changes:
        if change.group is None:
            _set_ema(ema, change)
        elif change.name != "lr":
            write(groups[change.group], change.name, change.after)
    # All are read before one is set: groups may share a rate that is a tensor, which is to be multiplied once.
    rates = [(group, name, read(group, name) * ratio) for group in groups for name in _RATES if has(group, name)]
    for group, name, rate in rates:
        write(group, name, rate)
    for group in groups:
        group[MARK] = group.get(MARK, 1.0) * report.factor
    if scheduler is not None:
        scale_schedule(scheduler, ratio)


def _set_ema(ema: Any, change: Change) -> None:
    if hasattr(ema, "decay"):
        ema.decay = change.after
