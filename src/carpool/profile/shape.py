"""A shape of batch: so many items, each padded to so many tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """A batch's size and the length that its items are padded to.

    Args:
        batch_size: Items, at least 1.
        length: Tokens of each, padding included; 1 where lengths mean nothing.

    >>> print(Shape(8, 64), Shape(8), Shape(8, 64).num_tokens)
    8 x 64 8 512
    """

    batch_size: int
    length: int = 1

    @property
    def num_tokens(self) -> int:
        """Items times length: what the work of a batch is nearly proportional to."""
        return self.batch_size * self.length

    def __str__(self) -> str:
        return f"{self.batch_size} x {self.length}" if self.length > 1 else str(self.batch_size)

    def covers(self, other: Shape) -> bool:
        """Tell whether a batch of this shape is at least as large as another in both directions."""
        return self.batch_size >= other.batch_size and self.length >= other.length


def by_work(shapes: set[Shape] | frozenset[Shape] | list[Shape] | tuple[Shape, ...]) -> list[Shape]:
    """Order shapes from the least work to the most; of equal tokens, shorter items first."""
    return sorted(shapes, key=lambda shape: (shape.num_tokens, shape.length))
