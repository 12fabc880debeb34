"""The warm-up that goes with a rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, SupportsIndex

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.scaling.change import WarmUp
from carpool.train.scaling.rules import EPOCHS_OF_WARM_UP, GOYAL, YOU

if TYPE_CHECKING:
    from carpool.train.scaling.rules import Rule


def warm_up(rule: Rule, factor: float, *, num_steps: int, steps_per_epoch: int | None) -> WarmUp | None:
    """The warm-up at the new batch; None where there was none and the rule asks for none.

    Args:
        rule: that the learning rate goes by.
        factor: new effective batch over the old one.
        num_steps: of the warm-up until now, at the old batch; 0 for none.
        steps_per_epoch: at the new batch; None where it isn't known.

    Raises:
        ConfigError: a number is no count.

    Source:
        Goyal et al. 2017, arXiv:1706.02677, section 2.2 (five epochs, from the old rate); You et al. 2019,
        arXiv:1901.08256 (LEGW: `factor` times the epochs, which are as many steps).

    >>> from carpool.train.scaling.rules import RULES
    >>> warm_up(RULES["legw"], 32, num_steps=390, steps_per_epoch=39).num_epochs
    10.0
    """
    if not _is_count(num_steps):
        raise ConfigError(f"warm_up_steps is {num_steps!r}; it must be at least 0, a whole number")
    if steps_per_epoch is not None:
        check_whole("steps_per_epoch", steps_per_epoch)
    if rule.name == "linear" and factor > 1:
        return _gradual(factor, math.ceil(num_steps / factor), steps_per_epoch)
    if not num_steps:
        return None
    if rule.name == "legw":
        return _of_steps(num_steps, steps_per_epoch, why=f"{factor:g} times the epochs, as many steps", source=YOU)
    return _of_steps(
        math.ceil(num_steps / factor), steps_per_epoch, why="over as many items as before", source=rule.source
    )


def _is_count(value: object) -> bool:
    return isinstance(value, SupportsIndex) and not isinstance(value, bool) and value.__index__() >= 0


def _gradual(factor: float, least_steps: int, steps_per_epoch: int | None) -> WarmUp:
    """Five epochs, or the warm-up that there is where it is longer."""
    num_epochs, num_steps = float(EPOCHS_OF_WARM_UP), None
    if steps_per_epoch is not None:
        num_steps = max(least_steps, EPOCHS_OF_WARM_UP * steps_per_epoch)
        num_epochs = num_steps / steps_per_epoch
    return WarmUp(
        start_factor=1 / factor,
        num_epochs=num_epochs,
        num_steps=num_steps,
        why="since the weights change fast at first, and the large rate does not hold then",
        source=GOYAL,
    )


def _of_steps(num_steps: int, steps_per_epoch: int | None, *, why: str, source: str) -> WarmUp:
    return WarmUp(
        start_factor=0.0,
        num_epochs=num_steps / steps_per_epoch if steps_per_epoch else None,
        num_steps=num_steps,
        why=why,
        source=source,
    )
