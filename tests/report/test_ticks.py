"""Ticks stand at numbers that people think in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.report import ticks

if TYPE_CHECKING:
    from carpool.report.plot import Scale


@pytest.mark.parametrize(
    ("limits", "scale", "expected"),
    [
        ((0.8, 70), "log2", [1, 2, 4, 8, 16, 32, 64]),
        ((1, 4096), "log2", [1, 4, 16, 64, 256, 1024, 4096]),
        ((0.5, 20), "log10", [0.5, 1, 2, 5, 10, 20]),
        ((1.3, 420), "log10", [2, 5, 10, 20, 50, 100, 200]),
        ((0.05, 2000), "log10", [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000]),
        ((0.05, 1e7), "log10", [0.1, 1, 10, 100, 1000, 1e4, 1e5, 1e6, 1e7]),
        ((11, 18), "log10", [12, 14, 16, 18]),
        ((0, 640), "linear", [0, 200, 400, 600]),
        ((0, 0.3), "linear", [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]),
        ((-5, 5), "linear", [-4, -2, 0, 2, 4]),
    ],
)
def test_positions(limits: tuple[float, float], scale: Scale, expected: list[float]) -> None:
    """Known ranges have the ticks one would draw by hand."""
    assert ticks.positions(limits, scale) == expected


@given(st.floats(1e-6, 1e6), st.floats(1.5, 1e6), st.sampled_from(["linear", "log2", "log10"]))
def test_ticks_are_few_ascending_and_inside(low: float, factor: float, scale: Scale) -> None:
    """Whatever the range."""
    found = ticks.positions((low, low * factor), scale)
    assert found == sorted(set(found))
    assert len(found) <= ticks.MOST_TICKS
    assert all(low * (1 - 1e-9) <= tick <= low * factor * (1 + 1e-9) for tick in found)


def test_labels_are_written_out() -> None:
    """Thousands are separated, fractions exact, nothing has an exponent that can do without."""
    assert [ticks.label(value) for value in (0, 0.05, 2.5, 1024, 1_000_000)] == [
        "0",
        "0.05",
        "2.5",
        "1,024",
        "1,000,000",
    ]
