"""English texts of a wanted number of tokens, by a model's own count."""

from __future__ import annotations

from collections import defaultdict
from itertools import cycle, islice
from typing import TYPE_CHECKING

from carpool.models.text import all_sentences, sentences

if TYPE_CHECKING:
    from collections.abc import Callable

NUM_OF_A_LENGTH = 16  # different texts of one length, so that no cache of a server answers for the model
NUM_CUT = 3  # of those that have to be cut to measure, which takes counting each a few times


class TextsOfLength:
    """Gives texts by their length in tokens: whole sentences where there are such, else some joined and cut.

    Args:
        length_of: tokens of a text, by the model's own count.
        seed: another seed gives other texts.

    >>> texts = TextsOfLength(lambda text: len(text.split()), seed=0)
    >>> [len(text.split()) for text in texts.of(12)[:3]], len(texts.of(1000)[0].split())
    ([12, 12, 12], 1000)
    """

    def __init__(self, length_of: Callable[[str], int], *, seed: int) -> None:
        self._length_of = length_of
        self._all = sentences(len(all_sentences()), seed=seed)
        self._known: dict[int, tuple[str, ...]] = {}
        self._whole: dict[int, list[str]] = defaultdict(list)
        for sentence in self._all:
            self._whole[length_of(sentence)].append(sentence)

    def of(self, length: int) -> tuple[str, ...]:
        """Return a few different texts whose length is as near to the wanted one as whole words allow."""
        if length not in self._known:
            self._known[length] = tuple(self._whole[length][:NUM_OF_A_LENGTH]) or tuple(
                self._cut(length, start) for start in range(NUM_CUT)
            )
        return self._known[length]

    def _cut(self, length: int, start: int) -> str:
        """Join sentences, beginning with a certain one, and leave off the words that are too many."""
        words: list[str] = []
        # A word has at least one token, but of a text that the model cuts off itself no more than its longest count.
        for sentence in islice(cycle(self._all), start * len(self._all) // NUM_CUT, None):
            words += sentence.split()
            if len(words) >= length:
                break
        enough = self._fewest_words(words, length)
        fitting = [" ".join(words[:num]) for num in (enough, enough - 1) if num]
        return min(fitting, key=lambda text: abs(self._length_of(text) - length))

    def _fewest_words(self, words: list[str], length: int) -> int:
        """Return how many of the words it takes to reach a length, by halving the range."""
        low, high = 1, len(words)
        while low < high:
            middle = (low + high) // 2
            if self._length_of(" ".join(words[:middle])) >= length:
                high = middle
            else:
                low = middle + 1
        return low
