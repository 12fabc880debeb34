"""Real English sentences to measure with: a fixed sample, the same on every machine.

The sentences come from the docstrings and the help topics of Python's standard library (copyright
Python Software Foundation, PSF licence; see `sentences.NOTICE.txt` beside the file).
"""

import gzip
import random
from functools import cache
from importlib.resources import files

from carpool.errors import ConfigError


def sentences(num: int, *, min_words: int = 5, max_words: int = 200, seed: int = 0) -> list[str]:
    """Sentences in a shuffled order; asked for more than there are, they come again in a new order.

    Args:
        num: how many.
        min_words: the fewest words of one.
        max_words: the most words of one.
        seed: another seed gives another choice and order.

    Raises:
        ConfigError: num is negative, or no sentence has so many words.

    >>> sentences(1, min_words=5, max_words=8) == sentences(1, min_words=5, max_words=8)
    True
    """
    if num < 0:
        raise ConfigError(f"{num} sentences were asked for; ask for 0 or more")
    chosen = [text for text in all_sentences() if min_words <= len(text.split()) <= max_words]
    if not chosen:
        raise ConfigError(f"no sentence has {min_words} to {max_words} words; they have 5 to 200")
    chance = random.Random(seed)  # noqa: S311 - chooses test data, no secret
    drawn: list[str] = []
    while len(drawn) < num:
        drawn += chance.sample(chosen, min(len(chosen), num - len(drawn)))
    return drawn


@cache
def all_sentences() -> tuple[str, ...]:
    """Every sentence of the sample, in the file's order."""
    packed = files("carpool.models").joinpath("sentences.txt.gz").read_bytes()
    return tuple(gzip.decompress(packed).decode().splitlines())
