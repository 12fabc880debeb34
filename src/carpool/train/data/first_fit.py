"""Which sequences share a row, so that rows of equal length hold them with little left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.data.lengths import read_lengths

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def first_fit(lengths: ArrayLike, row_length: int, *, look_ahead: int = 1024) -> list[list[int]]:
    """Put sequences into rows: so many of them at a time, the longest first, each into the first row with room for it.

    It takes at most 11/9 as many rows as the best packing of what it looks at, and 6/9 of a row.

    Args:
        lengths: tokens of each sequence, (num_sequences,).
        row_length: tokens of a row.
        look_ahead: sequences that are put into rows together: more leave less over, and mix the order further.

    Returns:
        The indices of the sequences in each row.

    Raises:
        ConfigError: a sequence is longer than a row, or a number is out of range.

    Source: D. S. Johnson (1973), Near-optimal bin packing algorithms; the constant is Dosa's (2007), The tight bound of
    first fit decreasing bin-packing algorithm is FFD(I) <= 11/9 OPT(I) + 6/9.

    >>> first_fit([3, 6, 5, 2], row_length=8)
    [[1, 3], [2, 0]]
    """
    check_whole("row_length", row_length)
    check_whole("look_ahead", look_ahead)
    whole = read_lengths(lengths)
    longest = int(whole.argmax())
    if whole[longest] > row_length:
        raise ConfigError(
            f"sequence {longest} has {whole[longest]} tokens, more than a row of {row_length}: cut it, or make the "
            "rows longer"
        )
    rows: list[list[int]] = []
    for start in range(0, len(whole), look_ahead):
        rows += [[start + index for index in row] for row in _rows(whole[start : start + look_ahead], row_length)]
    return rows


def _rows(lengths: NDArray[np.int64], row_length: int) -> list[list[int]]:
    room = np.full(len(lengths), row_length)  # each sequence has a row of its own at the worst
    rows: list[list[int]] = [[] for _ in lengths]
    num_used = 0
    for index in np.argsort(-lengths, kind="stable").tolist():
        row = int((room[: num_used + 1] >= lengths[index]).argmax())
        num_used = max(num_used, row + 1)
        room[row] -= lengths[index]
        rows[row].append(index)
    return rows[:num_used]
