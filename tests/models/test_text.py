"""The sample of sentences is fixed, distinct and within its limits."""

import itertools
from collections import Counter

import pytest

from carpool.errors import ConfigError
from carpool.models.text import all_sentences, sentences
from tools import make_sentences


def test_sample_holds_4096_distinct_sentences_of_5_to_200_words() -> None:
    """With the mix of lengths that the tool states."""
    texts = all_sentences()
    words = [len(text.split()) for text in texts]
    assert len(set(texts)) == len(texts) == 4096
    assert {
        bounds: sum(bounds[0] <= n <= bounds[1] for n in words) for bounds in make_sentences.MIX
    } == make_sentences.MIX


def test_draw_depends_on_nothing_but_its_arguments() -> None:
    """The same seed gives the same sentences, another seed others."""
    assert sentences(50, seed=1) == sentences(50, seed=1) != sentences(50, seed=2)
    assert set(sentences(50, seed=1)) <= set(all_sentences())


def test_draw_keeps_to_the_lengths() -> None:
    """Both limits included."""
    assert {len(text.split()) for text in sentences(300, min_words=5, max_words=6)} == {5, 6}


def test_more_than_there_are_come_again_evenly() -> None:
    """No sentence is left out or drawn twice as often."""
    counts = Counter(sentences(3 * 4096))
    assert set(counts.values()) == {3}


@pytest.mark.parametrize("num", [0, 1])
def test_small_draws_give_what_was_asked(num: int) -> None:
    """None and one."""
    assert len(sentences(num)) == num


def test_impossible_draws_name_the_limits() -> None:
    """A negative number, and a length that nothing has."""
    with pytest.raises(ConfigError, match="-1 sentences were asked for"):
        sentences(-1)
    with pytest.raises(ConfigError, match="no sentence has 300 to 400 words; they have 5 to 200"):
        sentences(1, min_words=300, max_words=400)


@pytest.mark.parametrize(
    ("block", "kept"),
    [
        ("Return the number of items in\nthe list.  It is never negative, of course.", 2),
        (">>> this is a prompt, and not a sentence.", 0),
        ("name     what the name of this is.\nsize     how large it is.", 0),
        ("Call f(x) to get the value of it.", 0),
        ("Too short this.", 0),
        ("This belongs to Dr. Who, and it is one sentence.", 1),
        ("It begins here but (never closes the bracket in it.", 0),
    ],
    ids=["prose", "prompt", "table", "code", "short", "abbreviation", "bracket"],
)
def test_only_prose_is_taken(block: str, kept: int) -> None:
    """Code, prompts and tables are left out."""
    assert len(make_sentences.sentences_of(block)) == kept


def test_long_texts_are_runs_of_the_sentences_of_one_source() -> None:
    """The same on every run, each within the limits and made of whole sentences in order."""
    found = list(itertools.islice(make_sentences.paragraphs(), 300))
    joined = list(make_sentences.joined_sentences(found))
    assert joined == list(make_sentences.joined_sentences(found))
    assert max(len(text.split()) for text in joined) <= 200
    everything = " ".join(text for paragraph in found for text in paragraph)
    assert all(text in everything for text in joined)
