"""Durations and sizes, read and written."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.units import (
    counted,
    format_bytes,
    format_count,
    format_duration,
    format_durations,
    format_sizes,
    parse_bytes,
    parse_duration_s,
    with_article,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("50ms", 0.05),
        (" 2 s ", 2.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("3us", 3e-6),
        ("3µs", 3e-6),
        (".5", 0.5),
        ("1e-3s", 1e-3),
        ("2min", 120.0),
        (0.05, 0.05),
        (0, 0.0),
        ("0", 0.0),
    ],
)
def test_durations_are_read(text: str | float, seconds: float) -> None:
    """With a unit, and in seconds without."""
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("2GiB", 2 * 1024**3), ("500MB", 500_000_000), ("1.5KB", 1500), ("1kB", 1000), ("12 B", 12), (123, 123)],
)
def test_sizes_are_read(text: str | int, num_bytes: int) -> None:
    """Powers of 1000 and of 1024."""
    assert parse_bytes(text) == num_bytes


@pytest.mark.parametrize(
    "value",
    ["", "ms", "5 parsecs", "-1s", "1s2", "nan", "inf", "1e400", "1e308h", math.inf, math.nan, -1, True, 10**400],
)
def test_what_is_no_duration_is_refused(value: str | float) -> None:
    """The message shows the value, the units and an example."""
    message = (
        f"{value!r} is not a duration: write a number of at least 0 with a unit of us, µs, ms, s, m, min, h, as in"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_duration_s(value)


@pytest.mark.parametrize("value", ["5ms", "GiB", "-1", "1e308TiB", math.inf, 10**400])
def test_what_is_no_size_is_refused(value: str | float) -> None:
    """However large it is."""
    with pytest.raises(ConfigError, match=re.escape(f"{value!r} is not a size: write a number of at least 0 with")):
        parse_bytes(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 us"),
        (999.6e-6, "1 ms"),
        (0.9996, "1 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (-75, "-1 min 15 s"),
        (math.inf, "inf s"),
        (-0.002, "-2 ms"),
    ],
)
def test_durations_are_written_with_the_unit_that_suits(seconds: float, text: str) -> None:
    """At the edges between units too."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1024**4 * 3, "3 TiB"), (1023.9, "1 KiB")]
)
def test_sizes_are_written_in_powers_of_1024(num_bytes: float, text: str) -> None:
    """Up to TiB."""
    assert format_bytes(num_bytes) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0"), (999.4, "999"), (999.6, "1,000"), (1234567, "1,234,567")])
def test_counts_are_written_with_separators(count: float, text: str) -> None:
    """From a thousand up."""
    assert format_count(count) == text


@given(st.floats(1e-6, 59.0))
def test_written_duration_reads_back(seconds: float) -> None:
    """To its three digits."""
    assert parse_duration_s(format_duration(seconds)) == pytest.approx(seconds, rel=5.1e-3)


@given(st.integers(1, 2**50))
def test_written_size_reads_back(num_bytes: int) -> None:
    """To its three digits; small ones to half a byte."""
    assert parse_bytes(format_bytes(num_bytes)) == pytest.approx(num_bytes, rel=5.1e-3, abs=0.5)


@pytest.mark.parametrize(
    ("seconds", "texts"),
    [
        ((0.109, 0.0104), ("109 ms", "10.4 ms")),
        ((19.9e-6, 19.2e-3), ("0.0199 ms", "19.2 ms")),
        ((1.5, 2e-3), ("1,500 ms", "2 ms")),
        ((9.16, 1.2), ("9.16 s", "1.2 s")),
        ((2.5, 1e-7), ("2,500 ms", "0.0001 ms")),
        ((0.0, 3e-6), ("0 us", "3 us")),
        ((0.0,), ("0 s",)),
    ],
)
def test_durations_that_are_compared_share_a_unit(seconds: tuple[float, ...], texts: tuple[str, ...]) -> None:
    """The largest one in which the smallest still shows."""
    assert format_durations(*seconds) == texts


@given(st.lists(st.floats(1e-3, 1e2), min_size=1, max_size=4))
def test_durations_in_one_unit_read_back(seconds: list[float]) -> None:
    """To their three digits, whatever is compared."""
    written = [text.replace(",", "") for text in format_durations(*seconds)]
    assert [parse_duration_s(text) for text in written] == pytest.approx(seconds, rel=5.1e-3)
    assert len({text.partition(" ")[2] for text in written}) == 1


def test_sizes_that_are_compared_share_a_unit() -> None:
    """As durations do."""
    assert format_sizes(446 * 1024**2, 1.04 * 1024**3, 18 * 1024**3) == ("0.436 GiB", "1.04 GiB", "18 GiB")


@pytest.mark.parametrize(
    ("num", "noun", "text"),
    [
        (0, "item", "0 items"),
        (1, "batch", "1 batch"),
        (2, "batch", "2 batches"),
        (3, "process", "3 processes"),
        (2, "query", "2 queries"),
        (2, "day", "2 days"),
        (12_000, "text", "12,000 texts"),
    ],
)
def test_a_number_has_its_noun_in_the_right_form(num: int, noun: str, text: str) -> None:
    """One is the singular, everything else the plural."""
    assert counted(num, noun) == text


@pytest.mark.parametrize(
    "text", ["an int", "a dict", "an ndarray", "an OrderedDict", "a uint8", "a NoneType", "a generator", "an item"]
)
def test_a_noun_has_the_article_that_it_is_spoken_with(text: str) -> None:
    """By its sound, not its letter."""
    assert with_article(text.split()[1]) == text
