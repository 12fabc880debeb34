"""Tables say the same in text, terminal and HTML, with numbers that line up."""

from __future__ import annotations

import io
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from carpool.errors import ConfigError
from carpool.report.table import Column, ColumnOf, Table, table_of

HOSTILE = "<script>alert('&\"')</script> [bold]"


def table(**changes: object) -> Table:
    """A small table of numbers and words."""
    values: dict[str, object] = {
        "title": "Speed",
        "columns": (Column("batch size"), Column("time", "ms", ".1f"), Column("bound")),
        "rows": ((1, 5.25, "overhead"), (1024, 1234.5, "compute"), (2048, None, "memory")),
        "notes": ("Medians.",),
        "highlight": 1,
        "highlight_label": "knee",
    }
    return Table(**(values | changes))  # type: ignore[arg-type]


def parse(html: str) -> ET.Element:
    """The elements of a table."""
    return ET.fromstring(html)  # noqa: S314 - our own output


def terminal(shown: Table, width: int = 100) -> str:
    """What rich prints on a terminal of that width."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(shown.to_rich())
    return stream.getvalue()


def test_text_aligns_numbers_right_and_words_left() -> None:
    """The whole text, letter by letter."""
    assert table().to_text() == (
        "Speed\n"
        "batch size  time (ms)  bound\n"
        "----------  ---------  --------\n"
        "         1        5.2  overhead\n"
        "     1,024     1234.5  compute  <- knee\n"
        "     2,048          \N{EN DASH}  memory\n"
        "Medians."
    )


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0.001, 1e6), st.text("ab ", max_size=9)), min_size=1))
def test_every_line_of_numbers_ends_at_its_columns_end(rows: list[tuple[int, float, str]]) -> None:
    """Right-aligned columns have one right edge, whatever they hold."""
    shown = Table("", (Column("n"), Column("x"), Column("word")), tuple(rows))
    header, rule, *lines = shown.to_text().splitlines()
    ends = [len(dashes) for dashes in rule.split("  ")][:2]
    edge = ends[0] + 2 + ends[1]
    assert header[:edge].rstrip() == header[:edge]
    for line in lines:
        assert line[edge - 1] in "0123456789"
        assert line[edge : edge + 2].strip() == ""


def test_floats_without_a_format_share_their_decimals() -> None:
    """Decimal points stand below one another, with three digits of the smallest number."""
    shown = Table("", (Column("x"),), ((0.5,), (12.25,), (0.0,), (1234.0,)))
    assert [row[0] for row in shown.formatted()] == ["0.500", "12.250", "0.000", "1,234.000"]


def test_nan_is_shown_as_nothing() -> None:
    """What was not measured is a dash, however it is written."""
    assert Table("", (Column("x"),), ((float("nan"),), (None,))).formatted() == (("\N{EN DASH}",),) * 2


def test_terminal_never_breaks_a_number() -> None:
    """On a narrow terminal headers wrap, numbers do not."""
    shown = Table("", (Column("a long header"), Column("another header")), ((123456, 1234567.25),))
    assert "123,456 " in terminal(shown, width=30)
    assert "1,234,567" in terminal(shown, width=30)


def test_terminal_shows_why_a_row_is_highlighted() -> None:
    """The label stands beside its row, and markup in cells is only text."""
    lines = terminal(table(rows=((1, 1.0, HOSTILE), (2, 2.0, "x"), (3, 3.0, "y")))).splitlines()
    assert [line for line in lines if "knee" in line] == [line for line in lines if " 2 " in line]
    assert any(HOSTILE in line for line in lines)


def test_html_has_headers_with_scope_and_one_highlighted_row() -> None:
    """A screen reader knows rows and columns, units are in the header."""
    root = parse(table().to_html())
    assert [cell.get("scope") for cell in root.iter("th")] == ["col"] * 3 + ["row"] * 3
    (highlighted,) = [row for row in root.iter("tr") if row.get("class") == "highlight"]
    assert "".join(highlighted.itertext()).split()[:2] == ["knee", "1,024"]
    assert ["".join(cell.itertext()) for cell in root.iter("th")][1] == "time ms"
    assert [cell.get("class") for cell in root.iter("td")][:2] == ["right", "left"]


def test_html_escapes_every_text() -> None:
    """Title, header, unit, cell, label and note can't bring markup."""
    shown = Table(HOSTILE, (Column(HOSTILE, HOSTILE),), ((HOSTILE,),), (HOSTILE,), 0, HOSTILE)
    root = parse(shown.to_html())
    assert not list(root.iter("script"))
    assert "".join(root.itertext()).count("<script>") == 6


def test_row_of_wrong_width_is_refused() -> None:
    """The message counts both."""
    with pytest.raises(ConfigError, match="row 0 of table 'Speed' has 1 cell, its columns are 3"):
        table(rows=((1,),))


def test_highlight_of_a_missing_row_is_refused() -> None:
    """The message says which rows there are."""
    with pytest.raises(ConfigError, match="has no row 9 to highlight: it has 3"):
        table(highlight=9)


def test_empty_table_shows_its_headers() -> None:
    """Nothing measured is a table without rows."""
    shown = table(rows=(), highlight=None)
    assert shown.to_text().splitlines()[1] == "batch size  time (ms)  bound"
    assert "batch size" in terminal(shown)
    parse(shown.to_html())


def test_what_no_entry_has_gets_no_column() -> None:
    """A row an entry; a dash where only some have it; the entry that matters is marked wherever it stands."""
    prices = {"full": 2.5, "empty": None}
    columns: list[ColumnOf[str]] = [
        (Column("word"), lambda word: word),
        (Column("price"), prices.get),
        (Column("weight"), lambda _: None),
    ]
    made = table_of("Words", list(prices), columns, highlight=lambda word: word == "empty", highlight_label="here")
    assert [column.title for column in made.columns] == ["word", "price"]
    assert made.rows == (("full", 2.5), ("empty", None))
    assert (made.highlight, made.highlight_label) == (1, "here")
    assert table_of("Words", list(prices), columns).highlight is None
