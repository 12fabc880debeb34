"""Plots: what is drawn, that it is whole, and that it is the same every time."""

from __future__ import annotations

import io
import itertools
import re
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from carpool.errors import ConfigError
from carpool.report.drawing import PANEL_INCHES, PNG_DPI, spread
from carpool.report.palette import BACKGROUND, INK, TONES, VARIABLES, css_variables
from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure

if TYPE_CHECKING:
    from pathlib import Path

SIZES = (1, 2, 4, 8, 16, 32, 64)
HOSTILE = '</text><script>alert(1)</script> $x^2$ & "q"'


def panel(title: str = "Rate", **changes: object) -> Panel:
    """Points with whiskers, a band, and a mark over batch sizes."""
    rates = [100 * size / (3 + size) for size in SIZES]
    low, high = [0.9 * rate for rate in rates], [1.1 * rate for rate in rates]
    values: dict[str, object] = {
        "title": title,
        "x_label": "batch size (items)",
        "y_label": "throughput (items/s)",
        "x_scale": "log2",
        "series": (
            LineSeries(label="measured", x=SIZES, y=rates, low=low, high=high, style="points", tone=0),
            LineSeries(label="fitted", x=SIZES, y=rates, low=low, high=high, style="band", tone=0),
            LineSeries(label="limit", x=SIZES, y=[100.0] * len(SIZES), style="dashed"),
        ),
        "marks": (Mark(16, "knee"),),
    }
    return Panel(**(values | changes))  # type: ignore[arg-type]


def texts(svg: str) -> list[str]:
    """All words in an SVG."""
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    return ["".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture(scope="module")
def picture() -> Picture:
    """Two panels side by side."""
    return figure((panel(), panel("Again")), title="Two")


def pixels(png: bytes) -> np.ndarray:
    """Red, green and blue of each pixel, 0 to 1."""
    return np.asarray(imread(io.BytesIO(png)))[:, :, :3]


def test_png_has_its_signature_and_the_size_of_its_panels(picture: Picture) -> None:
    """Two panels in a row are twice as wide as one."""
    assert picture.png.startswith(b"\x89PNG\r\n\x1a\n")
    height, width, _ = pixels(picture.png).shape
    assert width == round(2 * PANEL_INCHES[0] * PNG_DPI)
    assert PANEL_INCHES[1] * PNG_DPI <= height <= 1.2 * PANEL_INCHES[1] * PNG_DPI


def test_nothing_touches_the_edge(picture: Picture) -> None:
    """No label is clipped: the outermost pixels are background on all sides."""
    image = pixels(picture.png)
    for edge in (image[:3], image[-3:], image[:, :3], image[:, -3:]):
        assert edge.min() == 1.0


def test_points_of_one_height_are_whole() -> None:
    """Where the axis begins at 0 and all points lie at the top, there is room above them: no marker is cut in half."""
    level = LineSeries(label="", x=SIZES, y=[230.0] * 7, style="points")
    image = pixels(figure((panel(series=(level,), marks=()),), title="").png)
    tone = np.array([int(TONES[0][at : at + 2], 16) / 255 for at in (1, 3, 5)])
    rows = np.flatnonzero((np.abs(image - tone).max(axis=2) < 0.02).any(axis=1))
    widths = (np.abs(image - tone).max(axis=2) < 0.02).sum(axis=1)[rows]
    assert widths[0] < 0.75 * widths.max()
    assert widths[-1] < 0.75 * widths.max()


def test_long_labels_are_not_clipped_either() -> None:
    """Titles wrap and long names go above the panel."""
    many = tuple(
        LineSeries(
            label=f"a rather long name of series {number} " + "and more " * number, x=SIZES, y=[number + 1.0] * 7
        )
        for number in range(5)
    )
    marks = (Mark(1, "the very first of all the marks " * 2), Mark(64, "the last one of all the marks " * 2))
    image = pixels(
        figure(
            (panel("A title " * 12, series=many, x_label="x label " * 9, y_label="y label " * 9, marks=marks),),
            title="",
        ).png
    )
    for edge in (image[:3], image[-3:], image[:, :3], image[:, -3:]):
        assert edge.min() == 1.0


def test_ticks_of_batch_sizes_are_powers_of_two(picture: Picture) -> None:
    """Whole numbers, no exponents."""
    found = texts(picture.panels[0])
    assert [text for text in found if text.isdigit()][:7] == [str(size) for size in SIZES]


def test_svg_names_axes_series_and_marks_as_text(picture: Picture) -> None:
    """Words are words, so they can be searched and read aloud."""
    found = texts(picture.svg)
    for word in ("Rate", "Again", "batch size (items)", "throughput (items/s)", "measured", "fitted", "limit", "knee"):
        assert word in found


def test_svg_colours_are_variables_that_fall_back_to_the_light_look(picture: Picture) -> None:
    """Every colour can follow the page, and a file on its own still has them."""
    colours = set(re.findall(r"#[0-9a-f]{6}\b", picture.svg))
    assert colours <= set(VARIABLES)
    for colour in colours:
        assert picture.svg.count(colour) == picture.svg.count(f"var({VARIABLES[colour]}, {colour})")


def test_a_limit_is_neutral_and_takes_no_colour_from_the_next_series() -> None:
    """Dashed without a tone of its own, wherever it stands; a strong line is drawn thicker than others."""
    lines = [
        LineSeries(label="limit", x=[1, 2], y=[3.0, 3.0], style="dashed"),
        LineSeries(label="mine", x=[1, 2], y=[1.0, 2.0], strong=True),
    ]
    svg = figure((panel(series=lines, marks=()),), title="One").svg
    assert VARIABLES[TONES[0]] in svg
    assert VARIABLES[TONES[1]] not in svg
    assert "stroke-width: 3" in svg


def test_short_names_of_distinct_tones_stand_beside_their_lines() -> None:
    """A direct label has the colour of its line."""
    series = tuple(LineSeries(label=name, x=SIZES, y=[value] * 7) for name, value in (("low", 1.0), ("high", 2.0)))
    svg = figure((panel(series=series, marks=()),), title="").svg
    for name, tone in zip(("low", "high"), TONES, strict=False):
        (style,) = re.findall(rf'<text style="([^"]*)"[^>]*>{name}</text>', svg)
        assert tone in style


def test_drawing_twice_gives_the_same_bytes(picture: Picture) -> None:
    """No date, no random ids."""
    assert figure((panel(), panel("Again")), title="Two") == picture


def test_drawing_leaves_no_global_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of matplotlib are as before, a user's own style changes nothing, and pyplot is not even imported."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    with mpl.rc_context({"font.size": 31.0, "svg.fonttype": "path"}):
        drawn = figure((panel(),), title="One")
        assert (mpl.rcParams["font.size"], mpl.rcParams["svg.fonttype"]) == (31.0, "path")
    assert drawn == figure((panel(),), title="One")


def test_hostile_words_stay_words() -> None:
    """Markup and dollar signs in labels are shown as they are."""
    series = (LineSeries(label=HOSTILE, x=[1, 2], y=[1.0, 2.0]), LineSeries(label="b", x=[1, 2], y=[2.0, 2.0]))
    svg = figure((Panel(title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE, series=series),), title=HOSTILE).svg
    assert "<script" not in svg
    assert texts(svg).count(HOSTILE) >= 3


def test_degenerate_values_are_drawn() -> None:
    """One point, all zero, missing values, no series at all."""
    nothing = float("nan")
    for series in (
        (LineSeries(label="", x=[4], y=[0.0]),),
        (LineSeries(label="a", x=[1, 2], y=[nothing, nothing]), LineSeries(label="b", x=[1, 2], y=[1.0, nothing])),
        (),
    ):
        assert figure((panel(series=series, marks=()),), title="").png


def test_alternative_text_says_what_is_drawn(picture: Picture) -> None:
    """Titles, axes, series and marks; one's own words where given."""
    assert picture.alt.startswith(
        "Rate: throughput (items/s) over batch size (items) (measured, fitted, limit); knee at 16."
    )
    assert figure((panel(),), title="", alt="mine").alt == "mine"


def test_picture_is_saved_by_its_suffix(tmp_path: Path, picture: Picture) -> None:
    """PNG, SVG, and nothing else."""
    assert picture.save(tmp_path / "new" / "a.png").read_bytes() == picture.png
    assert picture.save(tmp_path / "a.svg").read_text(encoding="utf-8") == picture.svg
    with pytest.raises(ConfigError, match=r"ends in \.png or \.svg"):
        picture.save(tmp_path / "a.gif")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LineSeries(label="a", x=[1], y=[1, 2]), r"has \[1, 2\] values"),
        (lambda: LineSeries(label="a", x=[1], y=[1], style="band"), "lacks low or high"),
        (lambda: LineSeries(label="a", x=[1], y=[1], low=[1]), "lacks low or high"),
        (lambda: panel(series=(LineSeries(label="a", x=[0], y=[1]),)), "x = 0 on a logarithmic scale"),
        (lambda: panel(series=(LineSeries(label="a", x=[1], y=[-2]),), y_scale="log10"), "y = -2 on a logarithmic"),
        (lambda: figure((), title="none"), "has 0 panels"),
    ],
)
def test_what_cannot_be_drawn_is_refused(make: object, message: str) -> None:
    """Each with the value and the remedy."""
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0.01, 0.3))
def test_labels_are_spread_in_order_and_apart(heights: list[float], gap: float) -> None:
    """Neighbours keep their distance and their order."""
    placed = spread(heights, gap)
    assert len(placed) == len(heights)
    in_order = [place for _, place in sorted(zip(heights, placed, strict=True))]
    assert all(above - below >= gap - 1e-9 for below, above in itertools.pairwise(in_order))


def luminance(colour: str) -> float:
    """Relative luminance after WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_tone_is_legible_on_light_and_on_dark() -> None:
    """Contrast of at least 4.5 to 1, as WCAG 2 asks of text."""
    for colour in (INK, *TONES):
        assert (luminance(BACKGROUND) + 0.05) / (luminance(colour) + 0.05) >= 4.5
    dark = re.findall(r"(--plot-(?:ink|muted|tone-\d)): (#\w{6})", css_variables(dark=True))
    assert len(dark) == 2 + len(TONES)
    for _, colour in dark:
        assert (luminance(colour) + 0.05) / (luminance("#181d23") + 0.05) >= 4.5
