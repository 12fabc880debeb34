"""What commands share in their options: the `--json` flag and values such as `50ms`, `2GiB`, `1..256`, `p99=50ms`."""

from __future__ import annotations

import functools
import math
import os
from typing import TYPE_CHECKING, Any, TypeVar

import click

from carpool.cli.output import Output
from carpool.errors import ConfigError
from carpool.units import parse_bytes, parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from carpool.signals.objective import Objective

    Command = TypeVar("Command", bound=Callable[..., Any])

LARGEST_SIZE = 1 << 20


def json_option(command: Command) -> Command:
    """Give a command `--json` and the argument `output: Output` that follows it."""
    return click.option(
        "--json",
        "output",
        is_flag=True,
        callback=_to_output,
        help="Print one JSON document on standard output; progress goes to standard error.",
    )(command)


def _to_output(ctx: click.Context, _parameter: click.Parameter, value: bool) -> Output:  # noqa: FBT001 (click calls it)
    output = ctx.find_object(Output) or Output()
    output.json = value
    return output


class Parsed(click.ParamType):  # type: ignore[type-arg]  # older releases of click can't be subscripted
    """A value that a function reads from text, whose ConfigError becomes click's usage error.

    Args:
        name: What help shows in place of the value.
        parse: Reads the text.
    """

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self.parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the value; a default that is not text is a value already."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


def parse_length_of_time_s(text: str) -> float:
    """Read a duration that must be more than 0, as seconds."""
    seconds = parse_duration_s(text)
    if seconds == 0:
        raise ConfigError(f"{text!r} is no time at all: give more than 0, such as 30s")
    return seconds


def parse_sizes(text: str, *, what: str) -> tuple[int, ...]:
    """Read a list of batch sizes or lengths: `1,2,4`, or `1..256` for every doubling from 1 to 256, or both.

    Args:
        text: The list.
        what: What one of them is, for messages.

    Returns:
        The sizes, rising, each once.

    Raises:
        ConfigError: A part is not a whole number within the limits, or a range runs downwards.

    Example:
        >>> parse_sizes("1..12,48", what="batch size")
        (1, 2, 4, 8, 12, 48)
    """
    return tuple(sorted({size for part in text.split(",") for size in _read_part(part.strip(), what)}))


def _read_part(part: str, what: str) -> list[int]:
    """Read one number or one range."""
    first, dots, last = part.partition("..")
    if not dots:
        return [_read_size(part, what)]
    low, high = _read_size(first, what), _read_size(last, what)
    if low > high:
        raise ConfigError(f"the range {part!r} runs downwards: write {high}..{low}")
    return [low << step for step in range((high // low).bit_length())] + [high]


def _read_size(text: str, what: str) -> int:
    """Read one number within the limits."""
    try:
        size = int(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a whole number: write a list such as 1,2,4 or a range 1..256") from None
    if not 1 <= size <= LARGEST_SIZE:
        raise ConfigError(f"a {what} of {size} is outside 1 to {LARGEST_SIZE:,}: name sizes within it")
    return size


def require_room(out: Path, *, option: str = "--out") -> None:
    """Refuse a directory that can't be written to before anything is measured for it; nothing is made yet.

    Args:
        out: the directory.
        option: that names it, or a file in it.

    Raises:
        ConfigError: it, or what it would be made in, is no directory or may not be written to.
    """
    try:
        there = next(path for path in (out, *out.absolute().parents) if path.exists())
    except OSError as error:  # such as a name that is too long
        raise ConfigError(f"{option} {out} can't be made or filled: {error.strerror}; name another directory") from None
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        why = "may not be written to" if there.is_dir() else "is no directory"
        raise ConfigError(f"{option} {out} can't be made or filled: {there} {why}; name another directory")


def parse_rate(text: str) -> float:
    """Read a rate a second, finite and above 0."""
    try:
        rate = float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a number: give so many a second, such as 200") from None
    if not (math.isfinite(rate) and rate > 0):
        raise ConfigError(f"a rate of {text} a second is not a finite number above 0: give one such as 200")
    return rate


def parse_devices(text: str) -> tuple[str, ...]:
    """Read a list of devices.

    Raises:
        ConfigError: a name is missing between two commas.

    >>> parse_devices("cuda:0, cuda:1")
    ('cuda:0', 'cuda:1')
    """
    devices = tuple(part.strip() for part in text.split(","))
    if not all(devices):
        raise ConfigError(f"{text!r} is no list of devices; write them with commas between, such as cuda:0,cuda:1")
    return devices


def _parse_objective(text: str) -> Objective:
    from carpool.signals.objective import Objective

    return Objective.parse(text)


DURATION = Parsed("duration", parse_length_of_time_s)

WAIT = Parsed("duration", parse_duration_s)
BYTES = Parsed("bytes", parse_bytes)
BATCH_SIZES = Parsed("sizes", functools.partial(parse_sizes, what="batch size"))
LENGTHS = Parsed("sizes", functools.partial(parse_sizes, what="length"))
CHUNKS = Parsed("sizes", functools.partial(parse_sizes, what="chunk"))
DEVICES = Parsed("devices", parse_devices)
RATE = Parsed("rate", parse_rate)
OBJECTIVE = Parsed("objective", _parse_objective)
