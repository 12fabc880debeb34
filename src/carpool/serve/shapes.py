"""The shapes that a tensor from the network may have."""

from __future__ import annotations

import math
import reprlib
from typing import TYPE_CHECKING

from carpool.serve.faults import bad_request

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_DIMENSIONS = 32
MAX_SIZE = 1 << 40
# An array of no values still can't have sizes whose product passes what memory could ever hold.
_MAX_VALUES = 1 << 59


def check_shape(shape: Sequence[int], *, name: str) -> None:
    """Refuse a shape that no tensor can have.

    Args:
        shape: as the client gave it.
        name: the tensor's, for messages.

    Raises:
        Fault: it has no dimension or too many, or sizes below zero or without measure.
    """
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 0 or max(shape) > MAX_SIZE:
        limits = f"1 to {MAX_DIMENSIONS} sizes from 0 to {MAX_SIZE:,}"
        raise bad_request(f"the input {name[:60]!r} has the shape {_short(shape)}: give {limits}, the batch first")
    if math.prod(size or 1 for size in shape) > _MAX_VALUES:
        raise bad_request(
            f"the input {name[:60]!r} has the shape {_short(shape)}, which means more than the {_MAX_VALUES:,} values "
            "that a tensor can have: send less at once"
        )


def check_rows(shape: Sequence[int], *, name: str, max_rows: int) -> None:
    """Refuse a tensor of no row, or of more rows than one request may have.

    Args:
        shape: one that `check_shape` let through.
        name: the tensor's, for messages.
        max_rows: the most rows that one request may have.

    Raises:
        Fault: its first size is out of bounds.
    """
    if not 1 <= shape[0] <= max_rows:
        remedy = "split it" if shape[0] else "give one at least"
        raise bad_request(
            f"the input {name[:60]!r} has {shape[0]} rows, of 1 to {max_rows:,} that one request may have: {remedy}"
        )


def _short(shape: Sequence[int]) -> str:
    return reprlib.repr(list(shape))
