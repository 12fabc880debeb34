"""Where values come from: command line, environment, files and defaults, the stronger before the weaker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.config.document import VERSION_KEY, migrate, read_bytes
from carpool.config.environment import settings_in
from carpool.config.expected import in_words
from carpool.config.keys import check_keys, nearest
from carpool.config.syntax import parse_toml, shown
from carpool.config.tables import SettingsFile, leaves
from carpool.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carpool.config.leaf import Leaf

DEFAULT = "default"
COMMAND_LINE = "command line"
# What a key that is given leaves without meaning, and so displaces where a weaker layer gave it: other arrivals need no
# burstiness of the ones before.
_SHAPES = ("burstiness", "on", "off", "peak_to_mean", "period", "trace_start", "trace_duration", "speed")
_DISPLACED = {
    "workload.arrivals": tuple(f"workload.{key}" for key in ("trace", *_SHAPES)),
    "workload.trace": tuple(f"workload.{key}" for key in ("arrivals", *_SHAPES)),
    "workload.rate": ("workload.speed",),
    "workload.speed": ("workload.rate",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value in force, and where it came from.

    Args:
        key: Its dotted path, such as `policy.max_wait`.
        value: The value.
        origin: `default`, `command line`, `environment` and the variable, or the file.
        named: What to call it where it was given: `CARPOOL_POLICY_MAX_WAIT`, or `carpool.toml: policy.max_wait`.
    """

    key: str
    value: Any
    origin: str
    named: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value as one layer gave it; text from the environment may stand for a number.

    Args:
        value: To be converted to the key's type.
        origin: Where it came from.
        named: What to call it there.
        written: As it was written, for messages.
        strict: Whether text stands for nothing but text.
    """

    value: Any
    origin: str
    named: str
    written: Any
    strict: bool = True


def given_by(origin: str, key: str, value: Any) -> Given:
    """Return a value as a layer gave it that calls it by its key."""
    return Given(value=value, origin=origin, named=f"{origin}: {key}", written=value)


def gather(
    files: Sequence[Path | str],
    *,
    flags: Mapping[str, Any],
    environ: Mapping[str, str],
    tables: Mapping[str, Any],
    tables_from: str,
) -> tuple[Setting, ...]:
    """Bring the layers together, the first that gives a value winning: tables, flags, environment, files, default.

    Args:
        files: The strongest first.
        flags: Values by dotted key; None stands for not given.
        environ: Environment variables.
        tables: What stands above all else, in the form of a parsed file.
        tables_from: What errors call those tables.

    Returns:
        Every key, in the order of the tables.

    Raises:
        ConfigError: A value is wrong, or a file cannot be read.
        SchemaError: A file's syntax, version or keys are wrong.
    """
    known = {leaf.key: leaf for leaf in leaves()}
    layers = [
        _from_tables(tables, tables_from, Path(), known),
        _from_flags(flags, known),
        _from_environment(environ, known),
        *(_from_file(Path(file), str(file), known) for file in files),
    ]
    left = _displaced(layers)
    return tuple(_setting(leaf, left) for leaf in known.values())


def _from_flags(flags: Mapping[str, Any], known: Mapping[str, Leaf]) -> dict[str, Given]:
    for key in flags:
        assert key in known, f"no setting is called {key}: {nearest(key, known)}"
    return {key: given_by(COMMAND_LINE, key, value) for key, value in flags.items() if value is not None}


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Leaf]) -> dict[str, Given]:
    found = {}
    for key, text in settings_in(environ, known.values()).items():
        listed = isinstance(known[key].default, tuple)
        value = [part for part in text.split(",") if part.strip()] if listed else text
        name = known[key].variable
        found[key] = Given(value=value, origin=f"environment {name}", named=name, written=text, strict=False)
    return found


def _from_file(path: Path, source: str, known: Mapping[str, Leaf]) -> dict[str, Given]:
    return _from_tables(parse_toml(read_bytes(path), source), source, path.parent, known)


def _from_tables(raw: Mapping[str, Any], source: str, directory: Path, known: Mapping[str, Leaf]) -> dict[str, Given]:
    # A file written by hand may leave the version out: it then means the first.
    raw = migrate({VERSION_KEY: 1, **raw}, SettingsFile, source)
    tables = {key.partition(".")[0] for key, leaf in known.items() if "." in key or leaf.is_table}
    for table in tables:
        if not isinstance(raw.get(table, {}), dict):
            raise SchemaError(f"{source}: {table} is {shown(raw[table])}: it must be a table, [{table}]")
    check_keys(raw, SettingsFile, source)
    return {
        key: given_by(source, key, _beside(directory, value) if known[key].beside else value)
        for key, value in _flatten(raw, known)
        if key in known
    }


def _beside(directory: Path, name: Any) -> Any:
    """Seek a file where the file that names it is, so that both can be moved and used from anywhere."""
    return str(directory / name) if isinstance(name, str) else name


def _displaced(layers: list[dict[str, Given]]) -> list[dict[str, Given]]:
    """Take out of each layer what a stronger one displaces."""
    gone: set[str] = set()
    left = []
    for layer in layers:
        left.append({key: given for key, given in layer.items() if key not in gone})
        gone |= {key for given in layer for key in _DISPLACED.get(given, ())}
    return left


def _flatten(raw: Mapping[str, Any], known: Mapping[str, Leaf]) -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if isinstance(value, dict) and name not in known:
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _setting(leaf: Leaf, layers: list[dict[str, Given]]) -> Setting:
    default = given_by(DEFAULT, leaf.key, leaf.default)
    given = next((layer[leaf.key] for layer in layers if leaf.key in layer), default)
    return Setting(key=leaf.key, value=checked(leaf, given), origin=given.origin, named=given.named)


def checked(leaf: Leaf, given: Given) -> Any:
    """Convert a value to its key's type, and a duration or size to its number.

    Raises:
        ConfigError: It is no value of that key; the message has what it must be, what it means, and the default.
    """
    try:
        converted = msgspec.convert(given.value, leaf.annotation, strict=given.strict)
        _check_text(converted)
        return leaf.parse(converted) if leaf.parse and converted is not None else converted
    except msgspec.ValidationError:
        problem = f"{given.named} is {shown(given.written)}; it must be {in_words(leaf.annotation)}"
    except ConfigError as error:  # which begins with the value
        problem = f"{given.named}: {error}"
    default = "" if leaf.default in (None, (), {}) else f", {leaf.default}"
    raise ConfigError(f"{problem} ({leaf.description}). Correct it, or leave it out for the default{default}")


def _check_text(value: Any) -> None:
    """Refuse the character that no path, host or name can hold."""
    texts = value if isinstance(value, tuple) else (value,)
    if any(isinstance(text, str) and "\0" in text for text in texts):
        raise ConfigError(f"{shown(value)} holds a NUL character; it must be text without one")
