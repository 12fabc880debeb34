"""How long the items of a data set are, and what their lengths cost in padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

_LONGEST = 1 << 40  # so that no product of lengths leaves 64 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """What is computed for tokens, and for what only fills up rows.

    Args:
        num_tokens: of the items themselves.
        num_padded_tokens: rows times their length, padding included.

    >>> print(Padding(num_tokens=750, num_padded_tokens=1000))
    25.0 % of 1,000 tokens are padding
    """

    num_tokens: int
    num_padded_tokens: int

    @property
    def waste(self) -> float:
        """Share of the padded tokens that are padding, from 0 to below 1."""
        return 1 - self.num_tokens / self.num_padded_tokens if self.num_padded_tokens else 0.0

    @classmethod
    def of(cls, batches: Iterable[NDArray[np.int64]], *, multiple_of: int = 1) -> Self:
        """Add up batches that are each padded to their longest item.

        Args:
            batches: the lengths of each one's items.
            multiple_of: to which the longest length is rounded up.
        """
        num_tokens = num_padded = 0
        for lengths in batches:
            if len(lengths):
                num_tokens += int(lengths.sum())
                num_padded += len(lengths) * round_up(int(lengths.max()), multiple_of)
        return cls(num_tokens=num_tokens, num_padded_tokens=num_padded)

    def __str__(self) -> str:
        return f"{100 * self.waste:.1f} % of {self.num_padded_tokens:,} tokens are padding"


def read_lengths(lengths: ArrayLike) -> NDArray[np.int64]:
    """Check the lengths of a data set's items.

    Args:
        lengths: tokens of each item, (num_items,); an array, a CPU tensor or a list.

    Returns:
        A copy of them.

    Raises:
        ConfigError: there is none, or one is not a whole number from 1 that an item may have.

    >>> read_lengths([3, 5]).tolist()
    [3, 5]
    """
    try:
        array = np.asarray(lengths)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"lengths are not one number an item: {error}") from None
    if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
        raise ConfigError(
            f"lengths have shape {array.shape} and type {array.dtype}: give one whole number an item, such as "
            "[len(text) for text in texts]"
        )
    whole = array.astype(np.int64)  # always a copy: the caller may change his
    wrong = np.flatnonzero((whole < 1) | (whole > _LONGEST))
    if len(wrong):
        raise ConfigError(
            f"lengths[{wrong[0]}] is {array[wrong[0]]}; a length is from 1 to {_LONGEST}: leave empty items out of the "
            "data set"
        )
    return whole


def round_up(length: int, multiple_of: int) -> int:
    """Return the smallest multiple that holds a length.

    >>> round_up(17, 8), round_up(16, 8), round_up(5, 1)
    (24, 16, 5)
    """
    return -(-length // multiple_of) * multiple_of
