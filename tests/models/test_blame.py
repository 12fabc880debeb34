"""What is said of errors that the user's code raised: always something that can be written, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ModelError
from carpool.models.blame import calling, describe, first_line_of, text_of, writable

if TYPE_CHECKING:
    from collections.abc import Callable


@given(st.text(st.characters(), max_size=50))
def test_every_text_can_be_written(text: str) -> None:
    """What is Unicode stays as it is; halves of surrogate pairs are named by their numbers."""
    written = writable(text)
    written.encode()
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert written == text


@pytest.mark.parametrize("tell", [text_of, first_line_of, describe])
def test_an_error_is_told_in_one_line_of_bounded_length(tell: Callable[[BaseException], str]) -> None:
    """Whatever it holds."""
    assert len(tell(ValueError("x" * 10_000_000))) < 2100
    assert "\n" not in tell(ValueError("\n one\r\n two \n"))
    assert "bad \\ud83d" in tell(ValueError("bad \ud83d"))


def test_the_lines_of_an_error_follow_each_other() -> None:
    """Or only the first is told."""
    error = ValueError("\n one\n\ttwo")
    assert text_of(error) == "one two"
    assert first_line_of(error) == "one"


def test_an_error_that_cant_speak_says_nothing() -> None:
    """Its class is named instead."""

    class SilentError(Exception):
        def __str__(self) -> str:
            raise OSError("no words")

    assert text_of(SilentError()) == first_line_of(SilentError()) == ""
    assert describe(SilentError()) == "SilentError"


def test_a_place_with_half_a_surrogate_pair_is_told() -> None:
    """A file's name may hold bytes that are no text."""
    error = SyntaxError("what \udcff", ("file\udcff.py", 3, 1, "x\udcff", 3, 1))

    def fail() -> None:
        raise error

    with pytest.raises(ModelError) as caught:
        calling("load()", fail)
    assert str(caught.value) == "load() raised SyntaxError: what \\udcff (file\\udcff.py, line 3: x\\udcff)"
