"""Stop strings in text that comes in pieces."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from carpool.llm.stop import StopStrings

TEXTS = st.text("ab.", max_size=40)
STOPS = st.lists(st.text("ab.", min_size=1, max_size=5), max_size=4)


def cut_by_character(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text before the first stop string, found by looking at every prefix of the text in turn."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


def pieces(text: str, cuts: list[int]) -> list[str]:
    """The text, cut at some places."""
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(places)]


@given(TEXTS, STOPS, st.lists(st.integers(0, 40), max_size=10))
def test_text_ends_at_the_first_stop_string_however_it_is_cut(text: str, stops: list[str], cuts: list[int]) -> None:
    """What comes out, put together, is what a look at every prefix of the whole text finds."""
    watch, sent, hit = StopStrings(stops), "", None
    for piece in pieces(text, cuts):
        more, hit = watch.push(piece)
        sent += more
        if hit is not None:
            break
    if hit is None:
        sent += watch.flush()
    assert (sent, hit) == cut_by_character(text, stops)


@given(TEXTS, STOPS)
def test_no_more_is_held_back_than_could_become_a_stop_string(text: str, stops: list[str]) -> None:
    """What is not sent yet begins a stop string, and what is sent is never followed by one that began in it."""
    watch, sent = StopStrings(stops), ""
    for end, character in enumerate(text, start=1):
        more, hit = watch.push(character)
        sent += more
        if hit is not None:
            return
        held = text[len(sent) : end]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


@given(TEXTS, STOPS)
def test_a_stop_string_may_be_left_in_the_text(text: str, stops: list[str]) -> None:
    """Then the text ends with it."""
    sent, hit = StopStrings(stops, include=True).push(text)
    before, expected = cut_by_character(text, stops)
    assert hit == expected
    if hit is not None:
        assert sent == before + hit


def test_nothing_ends_while_the_text_is_too_short() -> None:
    """What comes before the least length is let through whole, and no stop string begins in it."""
    watch = StopStrings(["ab"])
    assert watch.push("xaba", armed=False) == ("xaba", None)
    assert watch.push("b") == ("b", None)
    assert watch.push("ab") == ("", "ab")


def test_what_was_held_is_let_through_where_the_text_ends_otherwise() -> None:
    """The beginning of a stop string that does not come is text like any other."""
    watch = StopStrings(["</end>"])
    assert watch.push("so </e") == ("so ", None)
    assert watch.flush() == "</e"
    assert watch.flush() == ""
