"""Writes TOML: what `carpool.toml` needs of it, so that it reads back as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from carpool.config.syntax import shown
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
_LAST_CONTROL, _DELETE = 0x1F, 0x7F


def to_toml(document: Mapping[str, object], *, comment: str = "") -> str:
    r"""Write a document: first its own values, then its tables, each in the order given.

    Args:
        document: Text, numbers, truth values, lists of these, and mappings; what is None is left out.
        comment: Lines to begin with, each as a comment.

    Raises:
        ConfigError: A value is of another type, or text that is not Unicode.

    >>> print(to_toml({"profile": "out/profile.json", "policy": {"max_wait": "2ms", "length_buckets": [16, 32]}}))
    profile = "out/profile.json"
    <BLANKLINE>
    [policy]
    max_wait = "2ms"
    length_buckets = [16, 32]
    <BLANKLINE>
    """
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    return "\n".join([*lines, *([""] if lines else []), *_table(document, "")]).lstrip("\n") + "\n"


def _table(values: Mapping[str, object], path: str) -> Iterator[str]:
    """Write one table's own values, then the tables within it."""
    tables = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in values.items() if name not in tables and value is not None}
    if path and (plain or not tables):
        yield from ("", f"[{path}]")
    for name, value in plain.items():
        yield f"{_key(name)} = {_value(value)}"
    for name, inner in tables.items():
        yield from _table(inner, f"{path}.{_key(name)}" if path else _key(name))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _text(name)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case list() | tuple():
            return f"[{', '.join(map(_value, value))}]"
    raise ConfigError(f"{shown(value)} can't be written to a TOML file: give text, a number, or a list of these")


def _text(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{shown(text)} is not Unicode text, which a TOML file holds alone: rename it") from None
    return f'"{"".join(map(_character, text))}"'


def _character(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    return f"\\u{ord(one):04X}" if ord(one) <= _LAST_CONTROL or ord(one) == _DELETE else one
