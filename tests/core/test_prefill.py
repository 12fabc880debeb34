"""How the tokens of a step are divided between prompts."""

from hypothesis import given
from hypothesis import strategies as st

from carpool.core.prefill import Division, num_left
from carpool.core.sequence import Sequence


class FakeDoor:
    """Lets in those that wait, first come first served, as long as there are places."""

    def __init__(self, waiting: list[Sequence], num_places: int) -> None:
        self.waiting = waiting
        self.num_places = num_places

    def admit_next(self, most_tokens: int | None) -> Sequence | None:
        """Let in the first."""
        fits = self.waiting and (most_tokens is None or num_left(self.waiting[0]) <= most_tokens)
        return self.admit(self.waiting[0]) if fits else None

    def admit_shortest(self, most_tokens: int) -> Sequence | None:
        """Let in the shortest."""
        shortest = min(self.waiting, key=num_left, default=None)
        return self.admit(shortest) if shortest is not None and num_left(shortest) <= most_tokens else None

    def admit(self, sequence: Sequence) -> Sequence | None:
        """Let in one, if there is a place."""
        if not self.num_places:
            return None
        self.num_places -= 1
        self.waiting.remove(sequence)
        return sequence


def sequences(lengths: list[int]) -> list[Sequence]:
    """Return sequences of so many tokens, in the order of entitlement."""
    made = [Sequence(tokens=[0] * length, max_new_tokens=1) for length in lengths]
    for order, sequence in enumerate(made):
        sequence.order = order
    return made


lengths = st.lists(st.integers(2, 200), max_size=6)


@given(lengths, lengths, st.integers(1, 300), st.integers(0, 6))
def test_nothing_is_wasted_and_the_first_gets_half(
    prefilling: list[int], waiting: list[int], num_tokens: int, num_places: int
) -> None:
    """All are given as long as anybody lacks any, none is given twice, and the first by entitlement gets half."""
    running = sequences(prefilling)
    coming = sequences(waiting)
    first = running[0] if running else coming[0] if coming and num_places else None
    division = Division(running, door := FakeDoor(coming, num_places), whole=False)
    division.divide(num_tokens)
    given_tokens = sum(division.given.values())
    assert given_tokens <= num_tokens
    assert all(0 < count <= num_left(sequence) for sequence, count in division.given.items())
    everybody_has_all = all(division.given.get(sequence) == num_left(sequence) for sequence in running)
    assert given_tokens == num_tokens or (everybody_has_all and not (door.waiting and door.num_places))
    if first is not None:
        assert division.given[first] >= min(num_left(first), num_tokens / 2)


@given(lengths, st.integers(1, 300), st.integers(0, 100), st.integers(0, 6))
def test_whole_prompts_get_all_or_nothing(
    waiting: list[int], num_tokens: int, num_singles: int, num_places: int
) -> None:
    """And if the first could not run otherwise, those that need but one token make way."""
    coming = sequences(waiting)
    first = coming[0] if coming and num_places else None
    division = Division([], FakeDoor(coming, num_places), whole=True)
    division.divide_whole(num_tokens, num_tokens + num_singles)
    assert all(count == num_left(sequence) for sequence, count in division.given.items())
    assert sum(division.given.values()) <= num_tokens + num_singles
    assert sum(division.given.values()) <= num_tokens or len(division.given) == 1
    if first is not None and num_left(first) <= num_tokens + num_singles:
        assert first in division.given


def test_the_shortest_of_those_that_can_be_finished_go_first() -> None:
    """In the second half; those of like length as the first wait for their turn."""
    running, coming = sequences([100, 90]), sequences([30, 10, 50])
    division = Division(running, FakeDoor(coming, 9), whole=False)
    division.divide(96)
    by_length = {num_left(sequence): count for sequence, count in division.given.items()}
    assert by_length == {100: 48 + 8, 10: 10, 30: 30}
