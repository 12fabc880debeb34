"""Quantities as people write them: "50ms", "2GiB", "1 item", "an int"."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000 ** (power + 1) for power, prefix in enumerate("KMGT")},
    **{f"{prefix}iB": 1024 ** (power + 1) for power, prefix in enumerate("KMGT")},
    "kB": 1000,
}
# Where a rounded value reaches the next unit: 999.5 rounds to 1000.
_MINUTE_S, _SECOND_S, _MILLISECOND_S = 60.0, 0.9995, 0.9995e-3
_NEXT_BYTES, _NEXT_COUNT = 1023.5, 999.5
# The units that durations and sizes are written in, largest first.
_WRITTEN_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_WRITTEN_BYTES = {unit: 1024.0**power for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB"), (0, "B"))}
# From this share of a unit on, three digits round to a whole one; below the second share of it they show too little.
_ROUNDS_UP, _LEAST_SHOWN = 0.9995, 0.01
_ENDS_IN_ES = ("s", "x", "z", "ch", "sh")
# Names that begin with the sound of a vowel: "an int", "an ndarray", but "a uint8".
_VOWEL_SOUND = re.compile(r"(?!uni|use|uint|one|eu)[aeiou]|nd", re.IGNORECASE)
_QUANTITY = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+)\s*([^\d\s.]*)\s*")


def parse_duration_s(value: str | float) -> float:
    """Read a duration, in seconds where it has no unit.

    Raises:
        ConfigError: it is negative, not finite, or not a number with a unit of us, ms, s, m or h.

    >>> parse_duration_s("50ms"), parse_duration_s("1.5m"), parse_duration_s(2)
    (0.05, 90.0, 2.0)
    """
    return _parse(value, _SECONDS, kind="duration", example='"50ms", "2s" or "1m"')


def parse_bytes(value: str | float) -> int:
    """Read a size in bytes; KB, MB, GB are powers of 1000 and KiB, MiB, GiB powers of 1024.

    Raises:
        ConfigError: it is negative, not finite, or not a number with one of those units.

    >>> parse_bytes("2GiB"), parse_bytes("1.5KB"), parse_bytes(12)
    (2147483648, 1500, 12)
    """
    return round(_parse(value, _BYTES, kind="size", example='"512MiB" or "2GiB"'))


def _parse(value: str | float, units: dict[str, float] | dict[str, int], *, kind: str, example: str) -> float:
    number, unit = _split(value)
    quantity = math.nan if number is None else number * units.get(unit, math.nan)
    if not 0 <= quantity < math.inf:
        known = ", ".join(name for name in units if name)
        raise ConfigError(
            f"{value!r} is not a {kind}: write a number of at least 0 with a unit of {known}, as in {example}"
        )
    return quantity


def _split(value: str | float) -> tuple[float | None, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value) if abs(value) < sys.float_info.max else math.inf), ""
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    return (float(match[1]), match[2]) if match else (None, "")


def format_duration(seconds: float) -> str:
    """Write a duration with three significant digits and the unit that suits it.

    >>> format_duration(0.0123), format_duration(75), format_duration(4e-6)
    ('12.3 ms', '1 min 15 s', '4 us')
    """
    magnitude = abs(seconds)
    if not math.isfinite(seconds):
        return f"{seconds} s"
    if magnitude >= _MINUTE_S:
        minutes, rest = divmod(round(magnitude), 60)
        return f"{'-' if seconds < 0 else ''}{minutes} min {rest} s"
    if magnitude >= _SECOND_S:
        return f"{_three_digits(seconds)} s"
    if magnitude >= _MILLISECOND_S:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{_three_digits(seconds * 1e6)} us"


def format_durations(*seconds: float) -> tuple[str, ...]:
    """Write durations that are compared in one unit: that of the largest, or the next one where the smallest needs it.

    >>> format_durations(7.11e-3, 267e-6), format_durations(2, 0.003)
    (('7.11 ms', '0.267 ms'), ('2,000 ms', '3 ms'))
    """
    return _in_one_unit(seconds, _WRITTEN_SECONDS)


def _in_one_unit(values: Sequence[float], units: Mapping[str, float]) -> tuple[str, ...]:
    """Write values in one of several units, given from the largest to the smallest."""
    sizes = [abs(value) for value in values if value]
    largest, smallest = max(sizes, default=math.inf), min(sizes, default=math.inf)
    own, *smaller = [unit for unit, scale in units.items() if largest >= _ROUNDS_UP * scale] or [*units][-1:]
    unit = smaller[0] if smaller and smallest < _LEAST_SHOWN * units[own] else own
    return tuple(f"{format_count(value / units[unit])} {unit}" for value in values)


def format_bytes(num_bytes: float) -> str:
    """Write a size with three significant digits in powers of 1024.

    >>> format_bytes(1536), format_bytes(3 * 1024**3), format_bytes(12)
    ('1.5 KiB', '3 GiB', '12 B')
    """
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < _NEXT_BYTES:
            return f"{_three_digits(size)} {unit}"
        size /= 1024
    return f"{_three_digits(size)} TiB"


def format_sizes(*num_bytes: float) -> tuple[str, ...]:
    """Write sizes that are compared with one another in one unit.

    >>> format_sizes(450 * 1024**2, 1.07 * 1024**3)
    ('0.439 GiB', '1.07 GiB')
    """
    return _in_one_unit(num_bytes, _WRITTEN_BYTES)


def format_count(count: float) -> str:
    """Write a count with separators, or with three significant digits below 1,000.

    >>> format_count(1234567), format_count(12.345)
    ('1,234,567', '12.3')
    """
    return f"{count:,.0f}" if abs(count) >= _NEXT_COUNT else _three_digits(count)


def counted(num: int, noun: str) -> str:
    """Write a number with its noun, in the singular or the plural.

    >>> counted(1, "item"), counted(2, "batch"), counted(1200, "query")
    ('1 item', '2 batches', '1,200 queries')
    """
    return f"{num:,} {noun if num == 1 else _plural(noun)}"


def capitalised(text: str) -> str:
    """Return a text that begins with a capital.

    >>> capitalised("batches of 8")
    'Batches of 8'
    """
    return f"{text[:1].upper()}{text[1:]}"


def _plural(noun: str) -> str:
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(_ENDS_IN_ES) else f"{noun}s"


def with_article(noun: str) -> str:
    """Write a noun, such as the name of a type, with the article that it is spoken with.

    >>> with_article("int"), with_article("dict"), with_article("uint8")
    ('an int', 'a dict', 'a uint8')
    """
    return f"{'an' if _VOWEL_SOUND.match(noun) else 'a'} {noun}"


def _three_digits(value: float) -> str:
    text = f"{value:.3g}"
    return f"{value:.0f}" if "e" in text else text
