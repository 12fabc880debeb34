"""How the tokens of a step that single ones leave over are divided between prompts.

One half goes to those that are most entitled, in their order, so that nobody can make one of them take more than twice
as long. The other half goes to those that it can finish, or that are much shorter than the first, the shortest of them
first, so that a short prompt does not wait for a long one. What is left after that goes by entitlement again.
"""

from collections.abc import Iterable
from typing import Protocol

from carpool.core.sequence import Sequence

MUCH_SHORTER = 2
"""A prompt goes beside the first one if it has this part of what that one lacks; of like length they go in turn."""


class Door(Protocol):
    """Lets waiting sequences in; each is among those prefilling from then on."""

    def admit_next(self, most_tokens: int | None) -> Sequence | None:
        """Let in the most entitled; None: there is none, or no room, or it has more left to compute than this."""
        ...

    def admit_shortest(self, most_tokens: int) -> Sequence | None:
        """Let in a short one with no more left to compute than this, or the most entitled if enough have passed it."""
        ...


def num_left(sequence: Sequence) -> int:
    """Return how many tokens of a sequence are still to be computed."""
    return len(sequence.tokens) - sequence.num_computed


class Division:
    """The division of one step.

    Args:
        prefilling: the running sequences that have more than one token left.
        door: lets in others.
        whole: give a sequence all that it has left, or nothing.

    Attributes:
        given: tokens for each.
    """

    def __init__(self, prefilling: Iterable[Sequence], door: Door, *, whole: bool) -> None:
        self.given: dict[Sequence, int] = {}
        self._members = sorted(prefilling, key=lambda sequence: (sequence.due_at, sequence.order))
        self._door = door
        self._whole = whole

    def divide(self, num_tokens: int) -> None:
        """Divide so many tokens by the rule of halves."""
        half = num_tokens - num_tokens // 2
        rest = num_tokens - half + self._by_entitlement(half)
        self._by_entitlement(self._shortest_first(rest))

    def divide_whole(self, num_tokens: int, most_tokens: int) -> None:
        """Divide so many tokens, or up to `most_tokens` if the first by entitlement could not run otherwise."""
        rest = self._by_entitlement(num_tokens)
        if rest < num_tokens or not self._give_first(most_tokens):
            self._shortest_first(rest)

    def _give_first(self, num_tokens: int) -> bool:
        first = self._members[0] if self._members else self._let_next_in(num_tokens)
        if first is None or num_left(first) > num_tokens:
            return False
        self.given[first] = num_left(first)
        return True

    def _let_next_in(self, num_tokens: int) -> Sequence | None:
        sequence = self._door.admit_next(num_tokens if self._whole else None)
        if sequence is not None:
            self._members.append(sequence)
        return sequence

    def _missing(self, sequence: Sequence) -> int:
        return num_left(sequence) - self.given.get(sequence, 0)

    def _by_entitlement(self, num_tokens: int) -> int:
        """Give by entitlement; return what is left of so many tokens."""
        position = 0
        while num_tokens:
            if position == len(self._members) and self._let_next_in(num_tokens) is None:
                break
            missing = self._missing(self._members[position])
            if self._whole and missing > num_tokens:
                break
            num_tokens -= self._give(self._members[position], min(missing, num_tokens))
            position += 1
        return num_tokens

    def _shortest_first(self, num_tokens: int) -> int:
        """Give to the shortest first, as far as they can be finished or are much shorter; return what is left."""
        first = next((missing for missing in map(self._missing, self._members) if missing), 0)
        much_shorter = 0 if self._whole else first // MUCH_SHORTER
        for sequence in sorted(self._members, key=self._missing):
            missing = self._missing(sequence)
            num_tokens = self._let_short_ones_in(num_tokens, much_shorter, missing - 1)
            if missing > max(num_tokens, much_shorter):
                return num_tokens
            num_tokens -= self._give(sequence, min(missing, num_tokens))
        return self._let_short_ones_in(num_tokens, much_shorter, num_tokens)

    def _let_short_ones_in(self, num_tokens: int, much_shorter: int, longest: int) -> int:
        while num_tokens and (short := self._door.admit_shortest(min(longest, max(num_tokens, much_shorter)))):
            self._members.append(short)
            num_tokens -= self._give(short, min(num_left(short), num_tokens))
        return num_tokens

    def _give(self, sequence: Sequence, num_tokens: int) -> int:
        if num_tokens:
            self.given[sequence] = self.given.get(sequence, 0) + num_tokens
        return num_tokens
