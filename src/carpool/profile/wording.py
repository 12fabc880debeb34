"""How a profile's shapes and figures are put into words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.profile.artefact import Profile

# From here on two digits would be written with an exponent.
TWO_DIGITS_BELOW = 99.5


def of_tokens(profile: Profile, length: int) -> str:
    """Return ` of 32 tokens`, or nothing where items have no lengths."""
    return f" of {counted(length, 'token')}" if profile.has_lengths else ""


def at_shape(profile: Profile, batch_size: int, length: int) -> str:
    """Return `batch 8 of 32 tokens`, or `batch 8` where items have no lengths."""
    return f"batch {batch_size}{of_tokens(profile, length)}"


def times(factor: float) -> str:
    """Return a factor with two digits, or all that it has before the point.

    >>> times(3.1416), times(0.405), times(120.4)
    ('3.1', '0.41', '120')
    """
    return f"{factor:.2g}" if factor < TWO_DIGITS_BELOW else f"{factor:,.0f}"


def listed(parts: Sequence[object]) -> str:
    """Join words as they are spoken.

    >>> listed([2]), listed([2, 4]), listed([2, 4, 8])
    ('2', '2 and 4', '2, 4 and 8')
    """
    words = [str(part) for part in parts]
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
