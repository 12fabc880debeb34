"""Versioned files: any frozen dataclass whose first field is `schema_version` can be written, read, and migrated.

A document's type says its own version and how older ones become it::

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Recipe:
        MIGRATIONS: ClassVar[Migrations] = {1: rename_oven}  # from version 1 to 2
        schema_version: int = 2
        temperature_c: float

Files are written as JSON; they are read as TOML where the name ends in `.toml`. Writing is atomic, and
never leaves a file that cannot be read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from inspect import cleandoc
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar

import msgspec

from carpool.config.atomic import write_bytes
from carpool.config.keys import to_type
from carpool.config.syntax import parse_json, parse_toml, shown
from carpool.errors import ConfigError, SchemaError

__all__ = ["Document", "Migration", "Migrations", "decode", "encode", "migrate", "read", "schema", "write"]

VERSION_KEY = "schema_version"

Migration: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the plain content of one version into that of the next; the version key is set for it."""
Migrations: TypeAlias = Mapping[int, Migration]
"""Migrations by the version that they start from."""


class Document(Protocol):
    """A frozen dataclass whose first field is its version; it may have `MIGRATIONS` from older ones."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def schema_version(self) -> int:
        """The version of the file's schema."""


DocumentT = TypeVar("DocumentT", bound=Document)


def read(path: Path | str, document_type: type[DocumentT]) -> DocumentT:
    """Read a file, migrating it where it is older.

    Args:
        path: The file.
        document_type: The dataclass that it holds.

    Raises:
        ConfigError: It cannot be read.
        SchemaError: It is not what it should be; the message says where.
    """
    return decode(read_bytes(Path(path)), document_type, str(path))


def read_bytes(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}; check the path") from None


def write(path: Path | str, value: Document) -> None:
    """Write a document whole or not at all, once it is certain that it can be read back.

    Args:
        path: Where to; missing directories are made.
        value: The document.

    Raises:
        ConfigError: It cannot be written there.
        SchemaError: What was given could not be read back (such as an infinite number, which JSON has not).
    """
    data = encode(value)
    decode(data, type(value), str(path))
    write_bytes(Path(path), data)


def encode(value: Document) -> bytes:
    """Return a document as indented JSON, its version first."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode(data: bytes, document_type: type[DocumentT], source: str) -> DocumentT:
    """Read a document from bytes: JSON, or TOML where the source's name ends so.

    Args:
        data: The bytes.
        document_type: The dataclass that they hold.
        source: What errors call them: a path.

    Raises:
        SchemaError: Broken syntax (line and column), an unknown version, an unknown key, or a wrong type.
    """
    raw = parse_toml(data, source) if source.endswith(".toml") else parse_json(data, source)
    return to_type(migrate(raw, document_type, source), document_type, source)


def migrate(raw: dict[str, Any], document_type: type[Document], source: str) -> dict[str, Any]:
    """Bring plain content up to the version that its type is at, step by step.

    Raises:
        SchemaError: The version is missing or not among those known.
    """
    current, steps = current_version(document_type), migrations(document_type)
    version = raw.get(VERSION_KEY)
    known = known_versions(current, steps)
    if type(version) is not int or version not in known:
        found = f"{VERSION_KEY} is {shown(version)}" if VERSION_KEY in raw else f"it has no {VERSION_KEY}"
        raise SchemaError(
            f"{source}: {found}; known versions: {', '.join(map(str, known))}. "
            "Read it with the version of Carpool that wrote it, or write it again with this one"
        )
    for older in range(version, current):
        raw = {**steps[older](dict(raw)), VERSION_KEY: older + 1}
    return raw


def known_versions(current: int, steps: Migrations) -> list[int]:
    """Return the versions from which an unbroken chain of migrations leads to the current one, ascending."""
    oldest = current
    while oldest - 1 in steps:
        oldest -= 1
    return list(range(oldest, current + 1))


def current_version(document_type: type[Document]) -> int:
    """Return the version that a document type is at: the default of its first field."""
    first = fields(document_type)[0]
    assert first.name == VERSION_KEY, f"{document_type.__name__} must begin with {VERSION_KEY}, not {first.name}"
    assert isinstance(first.default, int), f"{document_type.__name__}.{VERSION_KEY} needs its version as default"
    return first.default


def migrations(document_type: type[Document]) -> Migrations:
    """Return a document type's migrations; none where it has never changed."""
    found: Migrations = getattr(document_type, "MIGRATIONS", {})
    return found


def schema(document_type: Any, *, title: str, version_required: bool = True) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a document: no other keys, and the current version only.

    Args:
        document_type: The dataclass.
        title: What the schema is called.
        version_required: False for files written by hand, where a missing version means the first.
    """
    (root,), components = msgspec.json.schema_components([document_type], ref_template="#/$defs/{name}")
    defined = {name: _closed(part, version_required) for name, part in sorted(components.items())}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **root, "$defs": defined}


def _closed(part: dict[str, Any], version_required: bool) -> dict[str, Any]:  # noqa: FBT001 - private, one caller
    """Allow no other keys, and fix the version, as reading does."""
    if "description" in part:  # Python 3.13 takes the indentation out of docstrings, those before it don't
        part = {**part, "description": cleandoc(part["description"])}
    if "properties" not in part:
        return part
    properties, required = dict(part["properties"]), list(part.get("required", ()))
    if VERSION_KEY in properties:
        properties[VERSION_KEY] = {"const": properties[VERSION_KEY]["default"]}
        required = [VERSION_KEY, *required] if version_required else required
    return {**part, "properties": properties, "required": required, "additionalProperties": False}
