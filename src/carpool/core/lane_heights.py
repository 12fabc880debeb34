"""How many items stand in the first places of all lanes: kept up to date, so that asking costs little."""


class LaneHeights:
    """Counts, for the lanes of one weight, how many are longer than each length.

    What is in the first k places of all of them is then a sum over k counts, and not over the lanes.

    >>> heights = LaneHeights()
    >>> for _ in range(3):
    ...     heights.grow(0)
    >>> heights.grow(1)
    >>> heights.num_in_first(1), heights.num_in_first(2), heights.num_in_first(9)
    (3, 4, 4)
    """

    __slots__ = ("_num_longer",)

    def __init__(self) -> None:
        self._num_longer: list[int] = []  # by length: lanes that hold more than so many

    def grow(self, length: int) -> None:
        """Take note that a lane of a length has one more."""
        if length == len(self._num_longer):
            self._num_longer.append(0)
        self._num_longer[length] += 1

    def shrink(self, before: int, after: int) -> None:
        """Take note that a lane has become shorter."""
        for length in range(after, before):
            self._num_longer[length] -= 1
        while self._num_longer and not self._num_longer[-1]:
            self._num_longer.pop()

    def num_in_first(self, num_places: int) -> int:
        """Return how many items stand in the first places of all lanes."""
        return sum(self._num_longer[:num_places])
