"""Fills the page's templates, escaping every text."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    import jinja2

__all__ = ["render", "rich_text"]


def render(name: str, **values: Any) -> str:
    """Fill one template of this package.

    Args:
        name: file name of the template.
        values: what it may use; texts are escaped.
    """
    return _environment().get_template(name).render(**values)


def rich_text(text: str) -> Markup:
    """Escape a text and set what stands between backquotes as code.

    >>> rich_text("run `a < b`")
    Markup('run <code>a &lt; b</code>')
    """
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a backquote without its partner is only a character
        return escape(text)
    pieces = (Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts))
    return Markup("").join(pieces)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("carpool.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rich_text"] = rich_text
    return environment
