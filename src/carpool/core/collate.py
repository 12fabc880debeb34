"""Making one rectangular batch of items of many lengths, and taking it apart again."""

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def round_up(value: int, buckets: Sequence[int]) -> int:
    """Return the smallest bucket that holds `value`; `value` itself beyond the last bucket.

    >>> round_up(17, (16, 32, 64)), round_up(65, (16, 32, 64)), round_up(5, ())
    (32, 65, 5)
    """
    index = bisect_left(buckets, value)
    return buckets[index] if index < len(buckets) else value


def pad(
    sequences: Sequence[ArrayLike], *, value: float = 0, length: int | None = None, rows: int | None = None
) -> NDArray[np.generic]:
    """Lay sequences side by side, filled up with `value` to one length.

    Args:
        sequences: at least one, each (L_i, ...) with equal trailing axes.
        value: what fills the padding.
        length: padded length; the longest sequence's by default.
        rows: padded number of rows; the number of sequences by default.

    Returns:
        An array (rows, length, ...) of the sequences' common type.

    Raises:
        ValueError: there is no sequence, one does not fit, or the trailing axes differ.

    >>> pad([[1, 2, 3], [4]], length=4).tolist()
    [[1, 2, 3, 0], [4, 0, 0, 0]]
    """
    arrays = [np.asarray(sequence) for sequence in sequences]
    if not arrays:
        raise ValueError("pad was given no sequences; a batch has at least one")
    longest = max(len(array) for array in arrays)
    length, rows = length or longest, rows or len(arrays)
    if longest > length or len(arrays) > rows:
        raise ValueError(f"{len(arrays)} sequences of up to {longest} do not fit into {rows} rows of {length}")
    told = [array for array in arrays if array.size] or arrays  # an empty list has no type of its own
    trailing = {array.shape[1:] for array in told}
    if len(trailing) > 1:
        raise ValueError(f"the sequences' trailing axes differ: {sorted(trailing)}; only the first may")
    batch = np.full((rows, length, *told[0].shape[1:]), value, dtype=np.result_type(*told))
    for row, array in zip(batch, arrays, strict=False):
        if array.size:
            row[: len(array)] = array
    return batch


def length_mask(lengths: Sequence[int], length: int) -> NDArray[np.bool_]:
    """Return (B, length): True where a padded batch holds a real token.

    >>> length_mask([3, 1], 4).astype(int).tolist()
    [[1, 1, 1, 0], [1, 0, 0, 0]]
    """
    return np.arange(length) < np.asarray(lengths)[:, None]


def split_padded(batch: NDArray[np.generic], lengths: Sequence[int]) -> list[NDArray[np.generic]]:
    """Undo `pad`: return each sequence (L_i, ...) without its padding; padded rows are dropped.

    >>> [row.tolist() for row in split_padded(pad([[1, 2, 3], [4]]), [3, 1])]
    [[1, 2, 3], [4]]
    """
    return [row[:length] for row, length in zip(batch, lengths, strict=False)]
