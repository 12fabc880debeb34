"""The colours of plots and pages: distinct for every kind of colour vision, readable on light and on dark."""

from __future__ import annotations

__all__ = ["BACKGROUND", "FONT_VARIABLE", "GRID", "INK", "MUTED", "TONES", "VARIABLES", "css_variables"]

BACKGROUND = "#ffffff"
INK = "#1c2127"
MUTED = "#5a6470"
GRID = "#e3e7ec"

# Hues after M. Okabe, K. Ito, "Color Universal Design", darkened to a contrast of at least 4.5 on white.
TONES = ("#0067a5", "#bf4a00", "#007a58", "#9c3d80", "#8a6500", "#3d5a80")

_DARK = {
    INK: "#e7ecf1",
    MUTED: "#9ba7b4",
    GRID: "#2c343d",
    TONES[0]: "#5db4ee",
    TONES[1]: "#ff9b5c",
    TONES[2]: "#41d6a4",
    TONES[3]: "#eaa2d1",
    TONES[4]: "#e3c04f",
    TONES[5]: "#a9c1de",
}

FONT_VARIABLE = "--plot-font"
VARIABLES = {
    INK: "--plot-ink",
    MUTED: "--plot-muted",
    GRID: "--plot-grid",
    **{tone: f"--plot-tone-{number}" for number, tone in enumerate(TONES)},
}
"""CSS variable of each colour that a plot uses."""


def css_variables(*, dark: bool) -> str:
    """Declarations of the plots' colours for a style sheet."""
    return " ".join(f"{variable}: {_DARK[colour] if dark else colour};" for colour, variable in VARIABLES.items())
