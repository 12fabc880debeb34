"""Pages: structure, self-containment, accessibility, and that no text can become markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from carpool.report.page import Details, KeyFigure, KeyFigures, Page, Text, Verdict
from carpool.report.plot import LineSeries, Panel, figure
from carpool.report.table import Column, Table

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<img src=x onerror='alert(1)'>&\"</style></script>"
VOID = {"meta", "link", "br", "img", "path", "use", "rect", "line", "hr"}


class Outline(HTMLParser):
    """Collects tags, attributes and ids, and checks that every tag is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag and its attributes."""
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def values(self, attribute: str) -> list[str]:
        """All values of an attribute."""
        return [value for _, name, value in self.attributes if name == attribute]


def outline(html: str) -> Outline:
    """Parse a page."""
    parser = Outline()
    parser.feed(html)
    parser.close()
    assert not parser.open
    return parser


def page(text: str = "word") -> Page:
    """One of each section, with the text wherever a text can be."""
    series = (LineSeries(label=text, x=[1, 2], y=[1.0, 2.0]), LineSeries(label=text, x=[1, 2], y=[2.0, 3.0]))
    picture = figure((Panel(title=text, x_label=text, y_label=text, series=series),) * 2, title=text)
    table = Table(text, (Column(text, text),), ((text,),), (text,), 0, text)
    return Page(
        title=text,
        lead=text,
        sections=(
            Verdict(text, "good", (text,), label=text),
            KeyFigures((KeyFigure(text, text, text, text), KeyFigure("plain", "1"))),
            Text(text, (text,)),
            picture,
            table,
            Details(text, (picture, Text("", (text,)), table)),
        ),
        footer=text,
    )


@pytest.fixture(scope="module")
def html() -> str:
    """The page with harmless words."""
    return page().to_html()


def test_page_is_well_formed_and_made_for_phones_and_both_colours(html: str) -> None:
    """Language, title, viewport, colour scheme."""
    found = outline(html)
    assert html.startswith("<!doctype html>\n")
    assert found.tags.count("title") == found.tags.count("h1") == found.tags.count("main") == 1
    assert "en" in found.values("lang")
    assert "width=device-width, initial-scale=1" in found.values("content")
    assert "prefers-color-scheme: dark" in html


def test_page_needs_no_other_host(html: str) -> None:
    """Nothing is loaded: no script, no link, no address but the names of XML namespaces."""
    found = outline(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert not found.values("src")
    addresses = set(re.findall(r"https?://[^\"'\s<>)]*", html))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"url\((?!#)", html)
    assert "@import" not in html


def test_ids_are_unique_and_references_lead_somewhere(html: str) -> None:
    """Pictures on one page do not borrow from one another."""
    found = outline(html)
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    references = re.findall(r"url\(#([^)]*)\)", html) + [
        value[1:] for value in found.values("xlink:href") + found.values("href")
    ]
    assert references
    assert set(references) <= set(ids)


def test_pictures_and_tables_have_names_for_those_who_cannot_see_them(html: str) -> None:
    """Each picture has a text, each header cell a scope, each scrolling region a name."""
    found = outline(html)
    labels = [value for _, name, value in found.attributes if name == "aria-label"]
    assert len(labels) == found.values("role").count("img") + found.values("role").count("region") == 4
    assert all(labels)
    assert found.tags.count("th") == len(found.values("scope"))


def test_no_text_can_become_markup() -> None:
    """A hostile text in every place leaves the page's tags as they are with a harmless one."""
    letters = str.maketrans("<>&'\"/=()", "x" * 9)
    harmless, hostile = outline(page(HOSTILE.translate(letters)).to_html()), outline(page(HOSTILE).to_html())
    assert hostile.tags == harmless.tags
    assert not [name for _, name, _ in hostile.attributes if name.startswith("on")]


def test_same_page_gives_the_same_bytes(tmp_path: Path, html: str) -> None:
    """No date, no random ids; what is saved is what is rendered."""
    assert page().to_html() == html
    assert page().save(tmp_path / "new" / "report.html").read_text(encoding="utf-8") == html


def test_backquotes_set_code() -> None:
    """Pairs only, and what is inside is escaped."""
    html = Page("t", "run `a < b` and 5` tall", ()).to_html()
    assert "run `a &lt; b` and 5` tall" in html
    assert "run <code>a &lt; b</code> now" in Page("t", "run `a < b` now", ()).to_html()


def test_verdict_has_a_word_besides_its_colour() -> None:
    """Good and bad are told apart without seeing colours."""
    words = {Verdict("x", tone).word for tone in ("good", "warning", "bad", "neutral")}
    assert len(words) == 4
    assert Verdict("x", "good", label="Mine").word == "Mine"
