"""Pages: one self-contained HTML file that needs no network, reads well on a phone and follows light or dark."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from carpool.report.palette import css_variables
from carpool.report.plot import Picture
from carpool.report.table import Table

__all__ = ["Details", "KeyFigure", "KeyFigures", "Page", "Section", "Text", "Verdict"]


@dataclass(frozen=True, slots=True)
class Text:
    """Sentences, with a heading where they open a part of the page.

    Args:
        title: the heading; empty for none.
        paragraphs: plain texts; what stands between backquotes is set as code.
    """

    title: str
    paragraphs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One number that matters.

    Args:
        label: what it is.
        value: the number, formatted.
        unit: its unit.
        note: a few words about it.
    """

    label: str
    value: str
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class KeyFigures:
    """A row of numbers that matter."""

    figures: tuple[KeyFigure, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The conclusion.

    Args:
        text: one sentence.
        tone: whether it is `good` news, a `warning`, `bad` news or `neutral`; a word says so too, not colour alone.
        details: sentences that qualify it.
        label: the word above the sentence; empty for one that goes with the tone.
    """

    text: str
    tone: Literal["good", "warning", "bad", "neutral"] = "neutral"
    details: tuple[str, ...] = ()
    label: str = ""

    @property
    def word(self) -> str:
        """The label, or the tone as a word."""
        return (
            self.label
            or {"good": "It pays", "warning": "Mind this", "bad": "It does not pay", "neutral": "Verdict"}[self.tone]
        )


@dataclass(frozen=True, slots=True)
class Details:
    """Parts that are folded away until asked for.

    Args:
        summary: what is inside.
        sections: the parts.
    """

    summary: str
    sections: tuple[Section, ...]


Section: TypeAlias = Text | Table | Picture | KeyFigures | Verdict | Details


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Args:
        title: what it reports on.
        lead: the one sentence to remember.
        sections: its parts, in order.
        footer: where the figures come from, such as machine and versions.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    footer: str = ""

    def to_html(self) -> str:
        """The whole document; the same page gives the same bytes."""
        from carpool.report.template import render

        return render(
            "page.html.j2",
            page=self,
            parts=tuple(map(_Renderer().render, self.sections)),
            light=css_variables(dark=False),
            dark=css_variables(dark=True),
        )

    def save(self, path: Path | str) -> Path:
        """Write the document and return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_html(), encoding="utf-8")
        return path


class _Renderer:
    """Renders sections; numbers the panels, whose ids must not meet on one page."""

    def __init__(self) -> None:
        self._num_panels = 0

    def render(self, section: Section) -> str:
        from carpool.report.template import render

        match section:
            case Table():
                return section.to_html()
            case Picture():
                return render("picture.html.j2", picture=section, panels=self._panels(section))
            case Details():
                parts = tuple(self.render(part) for part in section.sections)
                return render("details.html.j2", details=section, parts=parts)
            case Text():
                return render("text.html.j2", text=section)
            case KeyFigures():
                return render("key_figures.html.j2", key_figures=section)
            case Verdict():
                return render("verdict.html.j2", verdict=section)

    def _panels(self, picture: Picture) -> tuple[str, ...]:
        first = self._num_panels
        self._num_panels += len(picture.panels)
        return tuple(inline_svg(svg, number) for number, svg in enumerate(picture.panels, start=first))


def inline_svg(svg: str, number: int) -> str:
    """The `svg` element of a document, with ids that are unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="panel{number}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\g<1>#panel{number}-", svg)
    return svg.strip()
