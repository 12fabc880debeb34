"""A small vocabulary of plots with one look, as PNG and as SVG that follows the page's light or dark colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.report.panel import LineSeries, Mark, Panel, Scale

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["LineSeries", "Mark", "Panel", "Picture", "Scale", "figure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A drawn figure.

    Args:
        title: what it shows.
        alt: the same for those who can't see it.
        png: bytes of a PNG on white.
        svg: an SVG document, transparent; its colours are CSS variables that fall back to the light look.
        panels: each panel alone as such a document, for pages that set them side by side or below one another.
    """

    title: str
    alt: str
    png: bytes
    svg: str
    panels: tuple[str, ...]

    def save(self, path: Path | str) -> Path:
        """Write a file, PNG or SVG by its suffix, and return its path.

        Raises:
            ConfigError: the suffix is neither.
        """
        path = Path(path)
        contents = {".png": self.png, ".svg": self.svg.encode()}.get(path.suffix.lower())
        if contents is None:
            raise ConfigError(f"a picture can't be written to {str(path)!r}: name a file that ends in .png or .svg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents)
        return path


def figure(panels: Sequence[Panel], *, title: str, alt: str = "", columns: int = 2) -> Picture:
    """Draw panels side by side.

    Args:
        panels: what to draw, at least one.
        title: what the figure shows as a whole.
        alt: a text for those who can't see it; empty for one put together from the panels' titles and labels.
        columns: most panels in a row.

    Raises:
        ConfigError: there is no panel.
    """
    if not panels:
        raise ConfigError(f"figure {title!r} has 0 panels: give at least 1")
    from carpool.report.drawing import draw

    png, svg, single = draw(panels, columns=columns)
    return Picture(title=title, alt=alt or _describe(panels), png=png, svg=svg, panels=single)


def _describe(panels: Sequence[Panel]) -> str:
    return " ".join(_describe_panel(panel) for panel in panels)


def _describe_panel(panel: Panel) -> str:
    names = ", ".join(series.label for series in panel.series if series.label)
    marks = "".join(f"; {mark.label} at {mark.x:g}" for mark in panel.marks)
    return f"{panel.title}: {panel.y_label} over {panel.x_label}{f' ({names})' if names else ''}{marks}."
