"""What to run before a model is ready, so that no client pays for the first batch of a shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.core import Policy
    from carpool.models.model import Model

# Full batches are warmed up to this many padded tokens: a second or so of an encoder on two cores.
MAX_TOKENS = 4096


def warm_batches(model: Model, policy: Policy) -> Iterator[Sequence[Any]]:
    """Yield batches of items of every length that the model pads to: one item, and a full batch where that is cheap.

    Args:
        model: loaded.
        policy: says what a full batch is.
    """
    sizes = sorted({1, policy.max_batch_size})
    for length in padded_lengths(model):
        for size in sizes:
            if size == 1 or size * length <= min(MAX_TOKENS, policy.token_budget or MAX_TOKENS):
                try:
                    yield model.examples(size, length=length or None)
                except ConfigError:  # no examples, or none of that length
                    continue


def padded_lengths(model: Model) -> tuple[int, ...]:
    """Return the lengths that a model pads batches to, rising; one 0 where its items have no length."""
    longest = model.info.max_length
    if not model.has_length or longest is None:
        return (0,)
    lengths: list[int] = []
    while not lengths or lengths[-1] < longest:
        last = lengths[-1] if lengths else 0
        lengths.append(max(last + 1, model.padded_length(last + 1)))
    return tuple(lengths)
