"""Up to which length a model's positions mean the same whatever else is in the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def steady_length(config: Any) -> int | None:
    """Return the longest sequence whose rotary positions don't depend on the batch; None where they never do.

    Two ways to stretch positions, `dynamic` and `longrope`, choose their frequencies by the longest sequence of a call:
    keys in the cache, and other sequences of the step, would be of another choice. Below the length from which
    they stretch they choose nothing.

    Args:
        config: of a model of transformers.

    >>> from types import SimpleNamespace
    >>> rope = {"rope_type": "longrope", "original_max_position_embeddings": 4096}
    >>> steady_length(SimpleNamespace(rope_parameters=rope, max_position_embeddings=131072))
    4096
    """
    limits = []
    for rope in _ropes(getattr(config, "rope_parameters", None) or {}):
        kind = rope.get("rope_type")
        if kind == "longrope":
            limits.append(int(rope.get("original_max_position_embeddings") or config.max_position_embeddings))
        elif kind == "dynamic":
            limits.append(int(config.max_position_embeddings))
    return min(limits, default=None)


def _ropes(parameters: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parameters themselves, or those of each kind of layer."""
    if "rope_type" in parameters:
        yield parameters
    else:
        yield from (each for each in parameters.values() if isinstance(each, dict))
