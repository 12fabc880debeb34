"""Checks a plain dictionary against a dataclass: unknown keys by dotted path, wrong types by what was found."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from carpool.config.syntax import shown
from carpool.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Value = TypeVar("Value")

_PATH = re.compile(r"^(?P<problem>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")


def to_type(raw: Any, wanted: type[Value], source: str) -> Value:
    """Turn plain dictionaries and lists into the dataclass they describe.

    Args:
        raw: What was parsed.
        wanted: The dataclass.
        source: What errors call it: a path.

    Raises:
        SchemaError: An unknown key (with the nearest known one), a missing key, or a value of the wrong type.
    """
    check_keys(raw, wanted, source)
    try:
        return msgspec.convert(raw, wanted)
    except msgspec.ValidationError as error:
        raise SchemaError(f"{source}: {explain_mismatch(str(error), raw)}") from None


def check_keys(raw: Any, wanted: type[Any], source: str) -> None:
    """Refuse keys that a dataclass, or one inside it, does not have.

    Raises:
        SchemaError: Names each unknown key by its dotted path, and the nearest known key.
    """
    unknown = list(_unknown_keys(raw, inspect.type_info(wanted), ""))
    if unknown:
        raise SchemaError(f"{source}: {'; '.join(unknown)}")


def nearest(key: str, known: Iterable[str]) -> str:
    """Say which known key an unknown one may have meant, or all of them where none is near."""
    names = sorted(known)
    close = get_close_matches(key, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"the keys known there are {', '.join(names)}"


def explain_mismatch(message: str, raw: Any) -> str:
    """Turn msgspec's message about a value into ours: dotted path, what was found, what was expected."""
    match = _PATH.match(message)
    problem, path = (match["problem"], match["path"] or "") if match else (message, "")
    steps = _STEP.findall(path)
    dotted = path.lstrip(".") or "the document"
    if "missing required field" in problem:
        return f"{dotted} lacks the key {problem.split('`')[1]!r}: add it, or write the file again"
    return f"{dotted} is {_found(raw, path, steps)}: {explain_limit(problem)}; correct that value"


def explain_limit(message: str) -> str:
    """Return what msgspec expected of a single value, without the place and the quotes."""
    match = _PATH.match(message)
    problem = (match["problem"] if match else message).replace("`", "")
    return f"{problem[:1].lower()}{problem[1:]}"


def _found(raw: Any, path: str, steps: list[tuple[str, str]]) -> str:
    """Return what lies at a path; below a mapping with free keys msgspec does not say which key."""
    if "[...]" in path:
        return "wrong"
    for name, index in steps:
        raw = raw[name] if name else raw[int(index)]
    return shown(raw)


def _unknown_keys(raw: Any, wanted: inspect.Type, path: str) -> Iterator[str]:
    """Walk value and type together; where they disagree in kind, leave it to the conversion to say so."""
    if isinstance(wanted, inspect.Metadata):
        yield from _unknown_keys(raw, wanted.type, path)
    elif isinstance(wanted, inspect.UnionType):
        inner = [one for one in wanted.types if isinstance(one, inspect.DataclassType | inspect.CollectionType)]
        for one in inner:
            yield from _unknown_keys(raw, one, path)
    elif isinstance(wanted, inspect.DataclassType) and isinstance(raw, dict):
        yield from _unknown_fields(raw, wanted, path)
    elif isinstance(wanted, inspect.CollectionType) and isinstance(raw, list):
        for index, value in enumerate(raw):
            yield from _unknown_keys(value, wanted.item_type, f"{path}[{index}]")
    elif isinstance(wanted, inspect.DictType) and isinstance(raw, dict):
        for name, value in raw.items():
            yield from _unknown_keys(value, wanted.value_type, _join(path, name))


def _unknown_fields(raw: dict[str, Any], wanted: inspect.DataclassType, path: str) -> Iterator[str]:
    known = {field.encode_name: field.type for field in wanted.fields}
    for name, value in raw.items():
        if name in known:
            yield from _unknown_keys(value, known[name], _join(path, name))
        else:
            yield f"unknown key {_join(path, name)!r}: {nearest(name, known)}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
