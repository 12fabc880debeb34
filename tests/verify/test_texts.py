"""Texts of a wanted number of tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.models.text import all_sentences
from carpool.verify.texts import TextsOfLength


def num_words(text: str) -> int:
    """Count words, as a model might count tokens."""
    return len(text.split())


TEXTS = TextsOfLength(num_words, seed=0)


@given(st.integers(1, 600))
def test_every_length_is_met(length: int) -> None:
    """Short of a sentence, exactly one, or many: as many tokens as were asked for."""
    assert {num_words(text) for text in TEXTS.of(length)} == {length}


@pytest.mark.parametrize("length", [7, 20, 40])
def test_whole_sentences_are_taken_where_there_are_such(length: int) -> None:
    """Several different ones, none cut."""
    texts = TEXTS.of(length)
    assert len(texts) == len(set(texts)) > 3
    assert set(texts) <= set(all_sentences())


def test_texts_that_are_put_together_differ_too() -> None:
    """They begin with different sentences."""
    assert len(set(TEXTS.of(500))) == 3


def test_the_nearest_is_taken_where_words_do_not_meet_the_length() -> None:
    """A word of four tokens can't make five."""
    texts = TextsOfLength(lambda text: 400 * num_words(text), seed=0)
    assert [num_words(text) for text in texts.of(900)] == [2, 2, 2]


def test_a_model_that_cuts_texts_off_gets_enough() -> None:
    """Its count never exceeds its limit, and at the limit no word is wanting."""
    texts = TextsOfLength(lambda text: min(num_words(text), 256), seed=0)
    assert {num_words(text) for text in texts.of(256)} == {256}


def test_another_seed_gives_other_texts() -> None:
    """And the same seed the same."""
    assert TextsOfLength(num_words, seed=0).of(20) == TEXTS.of(20) != TextsOfLength(num_words, seed=1).of(20)
