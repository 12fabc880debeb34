"""The numbers of an optimiser's parameter group, which may be tensors, and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

MARK = "carpool_scaled_by"
"""What a parameter group that was scaled keeps the factor under; checkpoints of the optimiser hold it too."""

BETAS = ("beta1", "beta2")
"""The names of what a group keeps as one pair."""


def innermost(optimizer: Any) -> Any:
    """The optimiser itself, where a framework has put something around it.

    Args:
        optimizer: of torch, or what has it as `optimizer`.
    """
    while hasattr(getattr(optimizer, "optimizer", None), "param_groups"):
        optimizer = optimizer.optimizer
    return optimizer


def read(group: Mapping[str, Any], name: str) -> float:
    """A number of a group.

    Args:
        group: of the optimiser.
        name: of the number; `beta1` and `beta2` are those of `betas`.
    """
    return float(group["betas"][BETAS.index(name)] if name in BETAS else group[name])


def has(group: Mapping[str, Any], name: str) -> bool:
    """Whether a group has such a number.

    Args:
        group: of the optimiser.
        name: of the number.
    """
    return group.get("betas" if name in BETAS else name) is not None


def write(group: MutableMapping[str, Any], name: str, value: float) -> None:
    """Set a number of a group; a tensor stays the same tensor, so that a captured graph sees the new value.

    Args:
        group: of the optimiser.
        name: of the number.
        value: to set.
    """
    if name in BETAS:
        betas = list(group["betas"])
        betas[BETAS.index(name)] = _replaced(betas[BETAS.index(name)], value)
        group["betas"] = tuple(betas)
    else:
        group[name] = _replaced(group[name], value)


def _replaced(old: Any, value: float) -> Any:
    """What stands in place of a number: the new one, or the same tensor with its value."""
    return old.fill_(value) if hasattr(old, "fill_") else value
