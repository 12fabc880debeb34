"""What a key of `carpool.toml` is: its type, limits, default and meaning, read off the tables that declare it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Final, TypeAlias, get_args, get_origin, get_type_hints

from msgspec import Meta

from carpool.core.limits import MOST_ITEMS
from carpool.core.policy import MOST_WORKERS
from carpool.errors import ConfigError
from carpool.units import parse_duration_s

Parse: TypeAlias = Callable[[Any], Any]
"""What turns the text of a duration or a size into a number; it stands in a key's annotation."""

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Items: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_ITEMS)]
Workers: TypeAlias = Annotated[int, Meta(ge=1, le=MOST_WORKERS)]
Buckets: TypeAlias = tuple[Count, ...]
Name: TypeAlias = Annotated[str, Meta(min_length=1)]
Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Sha256: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

BESIDE: Final = "beside"
"""Stands in the annotation of a key that names a file, which is sought beside the `carpool.toml` that names it."""


def some(parse: Parse, problem: str = "would refuse every request") -> Parse:
    """Return a reader that refuses nothing at all, and says what the problem with it is."""

    def read(value: Any) -> Any:
        found = parse(value)
        if not found:
            raise ConfigError(f"{value!r} {problem}; it must be above 0")
        return found

    return read


length_of_time_s = some(parse_duration_s, "is no time at all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One key that takes a value.

    Args:
        key: Its dotted path, such as `policy.max_wait`.
        annotation: The type it is converted to, limits included.
        default: Its value where none is given, as it would be written.
        description: What it means.
        parse: Turns a duration or a size into a number; None where the value is meant as it is.
        beside: Whether it names a file, sought beside the `carpool.toml` that names it.
    """

    key: str
    annotation: Any
    default: Any
    description: str
    parse: Parse | None
    beside: bool = False

    @property
    def is_table(self) -> bool:
        """Whether it is a table with names of the user's own, which no variable can set."""
        return isinstance(self.default, dict) and "." not in self.key

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"CARPOOL_{self.key.replace('.', '_').upper()}"


def leaves_of(table: Any, prefix: str = "") -> list[Leaf]:
    """Return the keys of a table and of those within it, in the order of their declaration.

    Args:
        table: A dataclass's instance, whose values are the defaults; a field without `Annotated` is no key.
        prefix: What the keys' paths begin with.
    """
    hints: Mapping[str, Any] = get_type_hints(type(table), include_extras=True)
    found: list[Leaf] = []
    for one in fields(table):
        value, annotation = getattr(table, one.name), hints[one.name]
        if is_dataclass(value):
            found += leaves_of(value, f"{prefix}{one.name}.")
        elif get_origin(annotation) is Annotated:
            found.append(_leaf(f"{prefix}{one.name}", annotation, value))
    return found


def _leaf(key: str, annotation: Any, default: Any) -> Leaf:
    extras = get_args(annotation)[1:]
    return Leaf(
        key=key,
        annotation=annotation,
        default=default,
        description="; ".join(extra.description for extra in extras if isinstance(extra, Meta) and extra.description),
        parse=next((extra for extra in extras if callable(extra)), None),
        beside=BESIDE in extras,
    )
