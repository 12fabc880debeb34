"""Draws panels with matplotlib, without its global figures."""

from __future__ import annotations

import io
import math
import re
import textwrap
from typing import TYPE_CHECKING, Any

from carpool.report import ticks
from carpool.report.palette import BACKGROUND, FONT_VARIABLE, GRID, INK, MUTED, TONES, VARIABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from carpool.report.panel import LineSeries, Mark, Panel

__all__ = ["draw"]

PANEL_INCHES = (4.5, 3.2)
PNG_DPI = 160
POINTS_AN_INCH = 72
LINE_POINTS = 13.5
HEADING_LINES = 2  # a title and a y label of one line each are what a panel has room for
# Characters that fit the width of a panel.
TITLE_WIDTH = 44
LABEL_WIDTH = 52
LEGEND_WIDTH = 54
SYMBOL_WIDTH = 6
LONGEST_MARK_LABEL = 24
ELLIPSIS = "…"
MOST_DIRECT_LABELS = 4
LONGEST_DIRECT_LABEL = 16
LABEL_GAP = 0.085  # least distance of two labels, as a share of the axes' height

STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.ymargin": 0.07,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
    "xtick.minor.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "figure.facecolor": BACKGROUND,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "carpool",
}


def draw(panels: Sequence[Panel], *, columns: int) -> tuple[bytes, str, tuple[str, ...]]:
    """Draw all panels as one PNG and one SVG, and each alone as an SVG for pages that flow.

    Args:
        panels: what to draw.
        columns: most panels in a row.
    """
    import matplotlib.style

    with matplotlib.style.context(["default", STYLE]):
        whole = _figure(panels, columns)
        png, svg = _png(whole), _svg(whole)
        single = (svg,) if len(panels) == 1 else tuple(_svg(_figure([panel], 1)) for panel in panels)
    return png, svg, single


def _figure(panels: Sequence[Panel], columns: int) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12, wspace=0.06, hspace=0.08)
    figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout=layout)
    FigureCanvasAgg(figure)
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        axes = [figure.add_subplot(rows, columns, first + number + 1) for number in range(len(row))]
        _draw_row(figure, axes, row)
    return figure


def _draw_row(figure: Figure, axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """Draw one row; the figure grows by what stands above the axes, so that long words do not squeeze what is drawn."""
    for one, panel in zip(axes, panels, strict=True):
        _draw_panel(one, panel)
    above = max(_draw_labels(one, panel) for one, panel in zip(axes, panels, strict=True))
    num_lines = max(_draw_heading(one, panel, above) for one, panel in zip(axes, panels, strict=True))
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + (above + LINE_POINTS * (num_lines - HEADING_LINES)) / POINTS_AN_INCH)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """SVG whose colours and font are CSS variables, so that the page around it decides between light and dark."""
    buffer = io.StringIO()
    nothing = {"Creator": None, "Date": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = re.sub(r"'DejaVu Sans'(?:, [^;\"]*)?", f"var({FONT_VARIABLE}, 'DejaVu Sans', sans-serif)", buffer.getvalue())
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable}, {colour})")
    return svg


def _draw_panel(axes: Axes, panel: Panel) -> None:
    """Draw all but the words above and beside the axes."""
    tones = _tones(panel.series)
    _set_scales(axes, panel)
    for series, tone in zip(panel.series, tones, strict=True):
        _draw_series(axes, series, tone)
    _set_limits(axes, panel)
    axes.grid(axis="y")
    axes.set_xlabel(textwrap.fill(panel.x_label, LABEL_WIDTH), labelpad=5)
    places = [_place_in_axes(axes, mark.x) for mark in panel.marks]
    for number, mark in enumerate(panel.marks):
        _draw_mark(axes, mark, level=number, leftwards=_has_more_room_left(places, number))


def _tones(series: Sequence[LineSeries]) -> list[str]:
    found, following = [], 0
    for one in series:
        if one.tone is None and one.style == "dashed":
            found.append(MUTED)
            continue
        number = following if one.tone is None else one.tone
        found.append(TONES[number % len(TONES)])
        following = max(following, number + 1)
    return found


def _set_scales(axes: Axes, panel: Panel) -> None:
    bases = {"log2": 2, "log10": 10}
    if panel.x_scale in bases:
        axes.set_xscale("log", base=bases[panel.x_scale])
    if panel.y_scale in bases:
        axes.set_yscale("log", base=bases[panel.y_scale])


def _draw_series(axes: Axes, series: LineSeries, tone: str) -> None:
    if series.style == "points":
        _draw_points(axes, series, tone)
        return
    if series.style == "band":
        axes.fill_between(series.x, _known(series.low), _known(series.high), color=tone, alpha=0.18, linewidth=0)
    axes.plot(
        series.x,
        series.y,
        color=tone,
        linewidth=_width(series),
        linestyle=(0, (4, 2.4)) if series.style == "dashed" else "-",
        zorder=3 if series.strong else 2,
    )


def _width(series: LineSeries) -> float:
    return 3.0 if series.strong else 1.9


def _draw_points(axes: Axes, series: LineSeries, tone: str) -> None:
    if series.low is not None:
        axes.vlines(series.x, series.low, _known(series.high), color=tone, linewidth=1.2, alpha=0.75)
    size = 9 if series.strong else 5
    axes.plot(
        series.x,
        series.y,
        color=tone,
        linestyle="none",
        marker="o",
        markersize=size,
        markeredgewidth=0,
        zorder=4,
    )


def _known(values: Sequence[float] | None) -> Sequence[float]:
    assert values is not None, "LineSeries holds both ends or none"
    return values


def _set_limits(axes: Axes, panel: Panel) -> None:
    low, high = axes.get_ylim()
    if panel.y_scale == "linear":
        if panel.y_from_zero and axes.dataLim.y0 >= 0:
            # The margin above belongs to the whole height, however little of it the data take up.
            low, high = 0.0, max(high, axes.dataLim.y1 * (1 + STYLE["axes.ymargin"]))
        # Room above the data for the names of marks, one line each.
        high += (high - low) * 0.09 * len(panel.marks)
    else:
        high *= (high / low) ** (0.09 * len(panel.marks))
    axes.set_ylim(low, high)
    ticks.place(axes.xaxis, axes.get_xlim(), panel.x_scale)
    ticks.place(axes.yaxis, axes.get_ylim(), panel.y_scale)


def _place_in_axes(axes: Axes, x: float) -> float:
    """Where x is, as a share of the axes' width."""
    return float(axes.transAxes.inverted().transform(axes.transData.transform((x, axes.get_ylim()[0])))[0])


def _has_more_room_left(places: Sequence[float], number: int) -> bool:
    """Whether the next mark, or the edge, is farther away on the left than on the right."""
    here = places[number]
    left = max((place for place in places if place < here), default=0.0)
    right = min((place for place in places if place > here), default=1.0)
    return here - left > right - here


def _draw_mark(axes: Axes, mark: Mark, *, level: int, leftwards: bool) -> None:
    axes.axvline(mark.x, color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
    axes.annotate(
        textwrap.shorten(mark.label, LONGEST_MARK_LABEL, placeholder=ELLIPSIS),
        xy=(mark.x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if leftwards else 5, -2 - 13 * level),
        textcoords="offset points",
        ha="right" if leftwards else "left",
        va="top",
        fontsize=9.0,
        color=INK,
    )


def _draw_labels(axes: Axes, panel: Panel) -> float:
    """Name the series beside their ends where that fits, else above; return the points of height taken above."""
    pairs = zip(panel.series, _tones(panel.series), strict=True)
    named = [(series, tone) for series, tone in pairs if series.label and len(series.x)]
    if len(named) <= 1:  # the y label says what a single series is
        return 0.0
    short = len(named) <= MOST_DIRECT_LABELS and all(len(series.label) <= LONGEST_DIRECT_LABEL for series, _ in named)
    # Series of one tone differ by their strokes alone, which only the row above can show.
    if short and len({tone for _, tone in named}) == len(named):
        _draw_direct_labels(axes, named)
        return 0.0
    return _draw_legend(axes, named)


def _draw_direct_labels(axes: Axes, named: Sequence[tuple[LineSeries, str]]) -> None:
    axes.get_figure().draw_without_rendering()  # type: ignore[union-attr]
    ends = [_height_in_axes(axes, series.x[-1], series.y[-1]) for series, _ in named]
    for (series, tone), height in zip(named, spread(ends, LABEL_GAP), strict=True):
        axes.annotate(
            series.label,
            xy=(1.0, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=tone,
            fontsize=9.0,
            fontweight="bold",
            annotation_clip=False,
        )


def _height_in_axes(axes: Axes, x: float, y: float) -> float:
    return float(axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[1])


def _draw_legend(axes: Axes, named: Sequence[tuple[LineSeries, str]]) -> float:
    from matplotlib.lines import Line2D

    handles = [_handle(Line2D, series, tone) for series, tone in named]
    widest = max(len(handle.get_label()) for handle in handles) + SYMBOL_WIDTH
    columns = min(len(named), max(1, LEGEND_WIDTH // widest))
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        borderaxespad=0.3,
        borderpad=0,
        fontsize=9.0,
        handlelength=1.6,
        columnspacing=1.4,
    )
    return LINE_POINTS * math.ceil(len(named) / columns) + 3.0


def _handle(kind: Any, series: LineSeries, tone: str) -> Any:
    label = textwrap.shorten(series.label, LEGEND_WIDTH - SYMBOL_WIDTH, placeholder=ELLIPSIS)
    if series.style == "points":
        return kind([], [], color=tone, linestyle="none", marker="o", markersize=5, label=label)
    dashes = (0, (4, 2.4)) if series.style == "dashed" else "-"
    return kind([], [], color=tone, linewidth=_width(series), linestyle=dashes, label=label)


def _draw_heading(axes: Axes, panel: Panel, above: float) -> int:
    """Write the title and, below it, what the y axis shows, in words that nobody has to tilt their head for.

    Return the number of lines that it takes.
    """
    place: dict[str, Any] = {
        "xycoords": "axes fraction",
        "textcoords": "offset points",
        "va": "bottom",
        "annotation_clip": False,
    }
    title, y_label = textwrap.wrap(panel.title, TITLE_WIDTH), textwrap.wrap(panel.y_label, LABEL_WIDTH)
    axes.annotate("\n".join(y_label), xy=(0, 1), xytext=(0, 6 + above), color=MUTED, **place)
    rise = 9 + LINE_POINTS * len(y_label) + above
    axes.annotate("\n".join(title), xy=(0, 1), xytext=(0, rise), fontweight="bold", fontsize=10.5, **place)
    return len(title) + len(y_label)


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Move heights apart as little as needed, so that neighbours are at least `gap` from each other.

    >>> spread([0.5, 0.1, 0.5], 0.2)
    [0.4, 0.1, 0.6]
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    groups: list[tuple[float, int]] = []  # (centre, members) of runs that touch, from below
    for index in order:
        centre, members = heights[index], 1
        while groups and centre - gap * members / 2 < groups[-1][0] + gap * groups[-1][1] / 2:
            other, others = groups.pop()
            centre, members = (centre * members + other * others) / (members + others), members + others
        groups.append((centre, members))
    placed = [centre + gap * (i - (members - 1) / 2) for centre, members in groups for i in range(members)]
    return [placed[order.index(index)] for index in range(len(heights))]
