"""From bytes to plain dictionaries, with the line and column of what is wrong."""

from __future__ import annotations

import json
import tomllib
from typing import Any, NoReturn

from carpool.errors import SchemaError


def parse_json(data: bytes, source: str) -> dict[str, Any]:
    """Read one JSON object.

    Args:
        data: The bytes, in UTF-8.
        source: What errors call them: a path.

    Raises:
        SchemaError: They are not one complete JSON object; the message has line and column.
    """
    text = _text(data, source)
    try:
        found = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        cut = " (it ends there: the file may be truncated)" if error.pos >= len(text.rstrip()) else ""
        raise SchemaError(
            f"{source}: line {error.lineno}, column {error.colno}: {error.msg}{cut}; "
            "it must be one complete JSON object: correct it or write it again"
        ) from None
    except (RecursionError, ValueError) as error:
        raise SchemaError(f"{source}: it is not readable as JSON ({error}); write it again") from None
    if not isinstance(found, dict):
        raise SchemaError(
            f"{source}: it holds {shown(found)}, and must be one JSON object, as in {{...}}; write it again"
        )
    return found


def parse_toml(data: bytes, source: str) -> dict[str, Any]:
    """Read a TOML document.

    Args:
        data: The bytes, in UTF-8.
        source: What errors call them: a path.

    Raises:
        SchemaError: They are not TOML; the message has line and column.
    """
    try:
        return tomllib.loads(_text(data, source))
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"{source}: {error}; correct the TOML there") from None
    except (RecursionError, ValueError) as error:  # nested without end, or a number of thousands of digits
        raise SchemaError(f"{source}: it is not readable as TOML ({error}); write less deep, or shorter") from None


def shown(value: Any) -> str:
    """Write a value for a message, cut short where it is long."""
    text = repr(value)
    most = 60
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _text(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SchemaError(
            f"{source}: line {line}: byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8 text"
        ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
