"""Random numbers that depend on where they are used, and on nothing else.

The number for a position is a hash of a seed and the position: no state is kept, so that a sequence draws the same
numbers whatever else is in its batch, and again after it was preempted.

Source: the output function of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"),
whose stream is itself a hash of a counter.
"""

from __future__ import annotations

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # the odd number next to 2**64 over the golden ratio: counters become far apart
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_UNIT = 2.0**-53


class RandomStream:
    """The random numbers of one sequence.

    Args:
        seed: any whole number; those equal modulo 2**64 are the same.
        index: which of several sequences with that seed it is.

    >>> stream = RandomStream(7)
    >>> stream.uniform(3) == RandomStream(7).uniform(3) != stream.uniform(4)
    True
    """

    __slots__ = ("_key",)

    def __init__(self, seed: int, index: int = 0) -> None:
        self._key = _mix(_mix(seed & _MASK) + index * _GOLDEN)

    def uniform(self, position: int) -> float:
        """Give the number for a position: 0 or more, below 1, a multiple of 2**-53."""
        return (_mix(self._key + (position + 1) * _GOLDEN) >> 11) * _UNIT


def _mix(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)
