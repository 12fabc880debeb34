"""Tables that look the same in a terminal, in plain text and on a page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from carpool.errors import ConfigError
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import rich.table

__all__ = ["Cell", "Column", "ColumnOf", "Table", "table_of"]

Cell: TypeAlias = str | int | float | None
E = TypeVar("E")

NOTHING = "\N{EN DASH}"
MOST_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        title: what it holds.
        unit: written once in the header, never in the cells.
        spec: how floats are written, as in `format(value, spec)`; empty for as many decimals as three digits of the
            column's smallest number need, at most 3.
        align: `right` for numbers, `left` for words; None decides by what the cells hold.
    """

    title: str
    unit: str = ""
    spec: str = ""
    align: Literal["left", "right"] | None = None

    @property
    def header(self) -> str:
        """Title and unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of numbers and words under named columns.

    Args:
        title: what the table shows.
        columns: its columns.
        rows: cells, as many a row as there are columns; None is shown as a dash.
        notes: sentences below the table.
        highlight: number of the row that matters most, from 0; None for none.
        highlight_label: a word that says why that row matters, such as `knee`; shown beside it.

    Raises:
        ConfigError: a row has too few or too many cells, or the highlighted row does not exist.

    >>> print(Table("Speed", (Column("items"), Column("time", "ms")), ((1, 2.5), (64, 14.25))).to_text())
    Speed
    items  time (ms)
    -----  ---------
        1       2.50
       64      14.25
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    highlight: int | None = None
    highlight_label: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ConfigError(
                    f"row {number} of table {self.title!r} has {counted(len(row), 'cell')}, "
                    f"its columns are {len(self.columns)}: give one cell a column, None for an empty one"
                )
        if self.highlight is not None and not 0 <= self.highlight < len(self.rows):
            raise ConfigError(
                f"table {self.title!r} has no row {self.highlight} to highlight: it has {len(self.rows)}, from 0"
            )

    def alignments(self) -> tuple[Literal["left", "right"], ...]:
        """Side that each column is aligned to."""
        return tuple(column.align or _natural_alignment(self._cells(i)) for i, column in enumerate(self.columns))

    def formatted(self) -> tuple[tuple[str, ...], ...]:
        """Cells as they are written, row by row."""
        by_column = [_format_column(self._cells(i), column.spec) for i, column in enumerate(self.columns)]
        return tuple(zip(*by_column, strict=True)) if self.rows else ()

    def to_text(self) -> str:
        """Plain text with aligned columns, as wide as it needs to be."""
        headers, cells = tuple(column.header for column in self.columns), self.formatted()
        widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
        lines = [self._line(headers, widths), "  ".join("-" * width for width in widths)]
        lines += [self._line(row, widths) + self._suffix(number) for number, row in enumerate(cells)]
        return "\n".join([*([self.title] if self.title else []), *lines, *self.notes])

    def to_rich(self) -> rich.table.Table:
        """Table for `rich`, whose console fits it to the terminal."""
        import rich.box
        import rich.table
        from rich.text import Text

        title = Text(self.title, style="bold") if self.title else None
        caption = Text("\n".join(self.notes), style="dim") if self.notes else None
        table = rich.table.Table(
            title=title, caption=caption, title_justify="left", caption_justify="left", box=rich.box.SIMPLE_HEAD
        )
        cells = self.formatted()
        for number, (column, side) in enumerate(zip(self.columns, self.alignments(), strict=True)):
            # A number is never broken over two lines, where it would read as two numbers.
            width = max((len(row[number]) for row in cells), default=0) if side == "right" else None
            table.add_column(Text(column.header), justify=side, overflow="fold", min_width=width)
        if self._has_label:
            table.add_column("")
        for number, row in enumerate(cells):
            marked = number == self.highlight
            label = [Text(f"← {self.highlight_label}" if marked else "")] if self._has_label else []
            table.add_row(*map(Text, row), *label, style="bold cyan" if marked else None)
        return table

    def to_html(self) -> str:
        """HTML `figure` with the table in it; every text is escaped."""
        from carpool.report.template import render

        return render("table.html.j2", table=self, sides=self.alignments(), rows=self.formatted())

    @property
    def _has_label(self) -> bool:
        return self.highlight is not None and bool(self.highlight_label)

    def _cells(self, column: int) -> tuple[Cell, ...]:
        return tuple(row[column] for row in self.rows)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        sides = self.alignments()
        padded = (
            cell.rjust(width) if side == "right" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, sides, strict=True)
        )
        return "  ".join(padded).rstrip()

    def _suffix(self, row: int) -> str:
        return f"  <- {self.highlight_label}" if self._has_label and row == self.highlight else ""


ColumnOf: TypeAlias = tuple[Column, Callable[[E], Cell]]
"""A column, and what an entry has in it."""


def table_of(
    title: str,
    entries: Sequence[E],
    columns: Sequence[ColumnOf[E]],
    *,
    notes: tuple[str, ...] = (),
    highlight: Callable[[E], bool] = lambda _: False,
    highlight_label: str = "",
) -> Table:
    """Make a table with a row an entry; a column that no entry has anything in is left out.

    Args:
        title: what the table shows.
        entries: what the rows are of.
        columns: what may be told of each.
        notes: sentences below the table.
        highlight: tells the entry that matters most.
        highlight_label: a word that says why it does.

    >>> columns = [(Column("word"), str), (Column("letters"), len), (Column("price"), lambda _: None)]
    >>> print(table_of("Words", ["a", "batch"], columns).to_text())
    Words
    word   letters
    -----  -------
    a            1
    batch        5
    """
    shown = [(column, cell) for column, cell in columns if any(cell(entry) is not None for entry in entries)]
    return Table(
        title,
        tuple(column for column, _ in shown),
        tuple(tuple(cell(entry) for _, cell in shown) for entry in entries),
        notes=notes,
        highlight=next((number for number, entry in enumerate(entries) if highlight(entry)), None),
        highlight_label=highlight_label,
    )


def _natural_alignment(cells: Sequence[Cell]) -> Literal["left", "right"]:
    return "left" if any(isinstance(cell, str) for cell in cells) else "right"


def _format_column(cells: Sequence[Cell], spec: str) -> list[str]:
    spec = spec or f",.{_decimals(cells)}f"
    return [_format_cell(cell, spec) for cell in cells]


def _format_cell(cell: Cell, spec: str) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return NOTHING
    if isinstance(cell, str):
        return " ".join(cell.split())
    return f"{cell:,}" if isinstance(cell, int) else format(cell, spec)


def _decimals(cells: Sequence[Cell]) -> int:
    """Decimals that show three digits of the smallest number, so that points stand below one another."""
    sizes = [abs(c) for c in cells if isinstance(c, float) and math.isfinite(c) and c != 0]
    if not sizes:
        return 1
    return min(MOST_DECIMALS, max(0, 2 - math.floor(math.log10(min(sizes)))))
