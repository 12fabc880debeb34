"""What the scaled numbers do not say: where their range ends, and what is left to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.train.scaling.choose import decays_apart, kind
from carpool.train.scaling.groups import BETAS, has, read
from carpool.train.scaling.rules import SQUARE_ROOT_OF_SGD

if TYPE_CHECKING:
    from carpool.train.scaling.rules import Rule


def notes(optimizer: Any, rule: Rule, factor: float, *, num_warm_up_steps: int) -> tuple[str, ...]:
    """What to say beside the numbers.

    Args:
        optimizer: before it is scaled.
        rule: that is used.
        factor: new effective batch over the old one.
        num_warm_up_steps: of the warm-up until now.
    """
    if factor == 1:
        return ()
    said = (
        _steps(rule, factor),
        _decays_at_their_end(optimizer, rule, factor),
        _averages_lag(optimizer, rule),
        _not_derived(optimizer, rule),
        _no_warm_up(rule, factor, num_warm_up_steps),
        _gain(rule, factor),
    )
    return tuple(note for note in said if note)


def _steps(rule: Rule, factor: float) -> str:
    if rule is SQUARE_ROOT_OF_SGD:
        return f"keep what is counted in steps: the rule is for as many steps as before, {factor:g} times the passes"
    to_do = f"divide by {factor:g}" if factor > 1 else f"multiply by {1 / factor:g}"
    return f"{to_do} what is counted in steps: the training, a schedule's turns, the time between two evaluations"


def _decays_at_their_end(optimizer: Any, rule: Rule, factor: float) -> str:
    if not rule.moves_moments:
        return ""
    decays = [read(group, name) for group in optimizer.param_groups for name in (*BETAS, "alpha") if has(group, name)]
    least = min((decay for decay in decays if decay), default=1.0)
    if (used_up := factor * (1 - least)) < 1:
        return ""
    return (
        f"{factor:g} x (1 - {least:g}) is {used_up:.3g}, past 1: that average is shorter than a step, and the equation "
        "that the learning rate comes from no longer holds; try rates about it"
    )


def _averages_lag(optimizer: Any, rule: Rule) -> str:
    if not (rule.moves_moments and optimizer.state):
        return ""
    return "training has begun: the averages in the optimiser are of the old batch until they have forgotten it"


def _not_derived(optimizer: Any, rule: Rule) -> str:
    known = kind(optimizer)
    if known is None and rule.name != "none":
        return f"no rule was derived for {type(optimizer).__name__}: only its learning rate is scaled"
    if rule.name == "weight_decay" and not any(decays_apart(optimizer, group) for group in optimizer.param_groups):
        return "this weight decay is added to the gradient, as a part of the loss, and stays"
    adaptive = known not in {"sgd", "lamb", "lars"}
    if rule.name == "linear" and adaptive:
        return "the linear rule is derived for SGD: Adam and RMSprop divide by the noise, and square_root is theirs"
    if rule.name == "legw" and adaptive:
        return "the decays and eps stay: square_root scales them too"
    return ""


def _no_warm_up(rule: Rule, factor: float, num_warm_up_steps: int) -> str:
    if rule.name != "legw" or factor <= 1 or num_warm_up_steps:
        return ""
    return (
        "LEGW multiplies the epochs of the warm-up, and there is none: give warm_up_steps, as they are at the old batch"
    )


def _gain(rule: Rule, factor: float) -> str:
    if rule.name != "linear" or factor <= 1:
        return ""
    return "beyond the noise scale the linear rate is too high: AdaScale takes as much of it as the gradients allow"
