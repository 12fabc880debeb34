"""Which rule goes with which optimiser."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.train.scaling.rules import RULES, SQUARE_ROOT_OF_SGD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.train.scaling.rules import Rule

_RULE_OF = MappingProxyType(
    {
        "sgd": "linear",
        "adam": "square_root",
        "adam8bit": "square_root",
        "adamw": "square_root",
        "adamw8bit": "square_root",
        "rmsprop": "square_root",
        "lamb": "legw",
        "lars": "legw",
    }
)


def choose(rule: object, optimizer: object) -> Rule:
    """The rule that is meant, fitted to the optimiser.

    Args:
        rule: its name, or `auto`.
        optimizer: whose hyper-parameters are scaled.

    Raises:
        ConfigError: there is no such rule, or none is known for this optimiser.
    """
    known = kind(optimizer)
    if rule == "auto":
        if known is None:
            raise ConfigError(
                f"no rule is known for {type(optimizer).__name__}, but for SGD, Adam, AdamW, RMSprop, LAMB and LARS: "
                f"give rule=, one of {', '.join(map(repr, RULES))}"
            )
        return RULES[_RULE_OF[known]]
    if not isinstance(rule, str) or rule not in RULES:
        raise ConfigError(f"rule is {rule!r}; it must be 'auto' or one of {', '.join(map(repr, RULES))}")
    if rule == "square_root" and (known is None or _RULE_OF[known] != "square_root"):
        return SQUARE_ROOT_OF_SGD
    return RULES[rule]


def kind(optimizer: object) -> str | None:
    """The optimiser, as far as a rule is known for it: by the names of its class and of those that it is made of.

    Args:
        optimizer: to look at.
    """
    names = (cls.__name__.lower() for cls in type(optimizer).__mro__)
    return next((name for name in names if name in _RULE_OF), None)


def decays_apart(optimizer: object, group: Mapping[str, Any]) -> bool:
    """Whether a group's weight decay is taken from the weights, as in AdamW, not added to the gradient.

    Args:
        optimizer: that the group is of.
        group: of parameters.
    """
    return bool(group.get("decoupled_weight_decay")) or "adamw" in (kind(optimizer) or "")
