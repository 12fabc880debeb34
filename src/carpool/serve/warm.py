"""What to run before a model is ready, so that no client pays for the first batch of a shape."""

from __future__ import annotations

import logging
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.core import Policy
    from carpool.models.model import Model

# Where no buckets of batch sizes are told, batches are warmed up to this many tokens: a third of a second of an encoder
# on two cores.
MAX_TOKENS = 2048
# Of packed rows, those are run that are longer by such a share than the one before.
_APART = 0.15
_TELL_EVERY_S = 2.0
_logger = logging.getLogger("carpool.serve")


class WarmUps:
    """Hands out what is run before models are ready: what one worker has run, another of the same model need not.

    Libraries keep what they prepare for a shape for the whole process: on two cores the first call of a shape takes a
    packed encoder 0 to 20 ms longer than the next one, and on a second thread no longer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[int, Iterator[Sequence[Any]]] = {}

    def batches(self, model: Model, policy: Policy, *, limit_s: float = math.inf) -> Iterator[Sequence[Any]]:
        """Yield the batches that are left to run, each to one of the workers that share a model.

        Args:
            model: loaded; kept as long as this is.
            policy: how batches are formed.
            limit_s: as for `warm_batches`.
        """
        if not model.concurrent:  # each worker has its own, and one that is loaded anew is cold again
            yield from warm_batches(model, policy, limit_s=limit_s)
            return
        with self._lock:
            shared = self._shared.setdefault(id(model), warm_batches(model, policy, limit_s=limit_s))
        while True:
            with self._lock:
                batch = next(shared, None)
            if batch is None:
                return
            yield batch


@dataclass(frozen=True, slots=True)
class Shape:
    """A batch to run once.

    Args:
        size: items.
        length: tokens of each; 0 where items have no length.
    """

    size: int
    length: int


def warm_batches(
    model: Model, policy: Policy, *, limit_s: float = math.inf, now: Callable[[], float] = time.monotonic
) -> Iterator[Sequence[Any]]:
    """Yield a batch of every shape that will be run, those that are asked for first before the others.

    Args:
        model: loaded.
        policy: how batches are formed.
        limit_s: after so many seconds what is left is left out, and the log says so; 0 leaves out all.
        now: tells the time in seconds.
    """
    shapes = warm_shapes(model, policy)
    started_at = told_at = now()
    for number, shape in enumerate(shapes):
        if now() - started_at >= limit_s:
            left = len(shapes) - number
            _logger.warning(
                "model %s: %d of %d shapes are not warmed up after %g s, so that the first requests of these take "
                "longer: allow more by model.warm_up", model.info.name, left, len(shapes), limit_s,
            )  # fmt: skip
            return
        if now() - told_at >= _TELL_EVERY_S:
            told_at = now()
            _logger.info("model %s: warming up, %d of %d shapes", model.info.name, number, len(shapes))
        try:
            yield model.examples(shape.size, length=shape.length or None)
        except ConfigError:  # no examples, or none of that length
            continue


def warm_shapes(model: Model, policy: Policy) -> list[Shape]:
    """Return the shapes that will be run: single items of every length first, then full batches.

    A model that takes ragged batches runs a row of tokens, whose lengths are then its shapes. Where no batch sizes are
    told, not all of them are run, and full batches only of lengths that double: a new shape costs little.

    Args:
        model: loaded.
        policy: how batches are formed.
    """
    if model.ragged:
        return [_in_all(total, model, policy) for total in _thinned(ragged_totals(model, policy), 1.0 + _APART)]
    lengths, buckets = padded_lengths(model), policy.batch_size_buckets
    shapes = [Shape(_fitting(buckets[0] if buckets else 1, length, policy), length) for length in lengths]
    if buckets:
        shapes += [Shape(_fitting(size, length, policy), length) for size in reversed(buckets) for length in lengths]
    else:
        shapes += [Shape(_fitting(policy.max_batch_size, length, policy), length) for length in _thinned(lengths, 2.0)]
    return list(dict.fromkeys(shapes))


def _thinned(rising: Sequence[int], times: float) -> list[int]:
    """Return the first, the last, and of those between such as are so many times the one before."""
    kept = [rising[0]]
    for one in rising[1:]:
        if one >= times * kept[-1] or one == rising[-1]:
            kept.append(one)
    return kept


def _fitting(size: int, length: int, policy: Policy) -> int:
    """Return the most items, up to `size`, that may run together at a length."""
    buckets = policy.batch_size_buckets
    most_tokens = policy.token_budget or (math.inf if buckets else MAX_TOKENS)
    if size * length <= most_tokens:
        return size
    fits = int(most_tokens // length)
    return max((bucket for bucket in buckets if bucket <= fits), default=max(1, fits) if not buckets else buckets[0])


def padded_lengths(model: Model) -> tuple[int, ...]:
    """Return the lengths that a model pads batches to, rising; one 0 where its items have no length."""
    longest = model.info.max_length
    if not model.has_length or longest is None:
        return (0,)
    return tuple(_steps(model.padded_length, longest))


def ragged_totals(model: Model, policy: Policy) -> tuple[int, ...]:
    """Return how many tokens the rows of a model have that takes ragged batches, rising."""
    longest = model.info.max_length or 1
    most = policy.max_batch_size * longest
    tokens = policy.token_budget or model.preferred_tokens or max(longest, MAX_TOKENS)
    return tuple(_steps(model.rounded_total, min(most, tokens)))


def _steps(rounded: Callable[[int], int], most: int) -> Iterator[int]:
    """Yield what numbers from 1 to `most` are rounded up to, each once."""
    last = 0
    while last < most:
        last = max(last + 1, rounded(last + 1))
        yield last


def _in_all(total: int, model: Model, policy: Policy) -> Shape:
    """Return as few items of one length as make up about so many tokens together."""
    size = min(policy.max_batch_size, math.ceil(total / (model.info.max_length or total)))
    return Shape(size, total // size)
