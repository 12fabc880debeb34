"""What may stand for a number."""

from __future__ import annotations

from math import nan
from numbers import Real


def number(value: object) -> float:
    """Return a value as a number; nan, which lies in no range, for what is none.

    Args:
        value: that somebody gave.

    >>> number(2), number("2"), number(True)
    (2.0, nan, nan)
    """
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
