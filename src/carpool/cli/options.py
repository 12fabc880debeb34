"""What commands share in their options: the `--json` flag and values such as `50ms`, `2GiB`, `1..256`, `p99=50ms`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import click

from carpool.cli.output import Output
from carpool.errors import ConfigError
from carpool.units import format_duration, parse_bytes, parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.loadgen.stats import Objective

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


class Duration(click.ParamType):
    """A time such as `50ms`, `2s`, `1m`, as float seconds.

    Args:
        allow_zero: Whether 0 is a value (a wait) or a mistake (a length of time).
    """

    name = "duration"

    def __init__(self, *, allow_zero: bool = False) -> None:
        self.allow_zero = allow_zero

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the time."""
        seconds = self._parse(value, param, ctx)
        if seconds == 0 and not self.allow_zero:
            self.fail(f"{value!r} is no time at all: give more than 0, such as 30s", param, ctx)
        return seconds

    def _parse(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration_s(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Bytes(click.ParamType):
    """A size such as `2GiB` or `500MB`, as int bytes."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the size."""
        try:
            return parse_bytes(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class Sizes(click.ParamType):
    """A list of batch sizes or lengths: `1,2,4`, or `1..256` for every doubling from 1 to 256, or both.

    Args:
        what: What one of them is, for messages.

    Example:
        >>> Sizes("batch size")("1..12,48")
        (1, 2, 4, 8, 12, 48)
    """

    name = "sizes"

    def __init__(self, what: str) -> None:
        self.what = what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the list, sorted and without repeats."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(sorted({size for part in str(value).split(",") for size in self._part(part.strip())}))
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def _part(self, part: str) -> list[int]:
        """Read one number or one range."""
        first, dots, last = part.partition("..")
        if not dots:
            return [self._size(part)]
        low, high = self._size(first), self._size(last)
        if low > high:
            raise ValueError(f"the range {part!r} runs downwards: write {high}..{low}")
        return [low << step for step in range((high // low).bit_length())] + [high]

    def _size(self, text: str) -> int:
        """Read one number within the limits."""
        try:
            size = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number: write a list such as 1,2,4 or a range 1..256") from None
        if not 1 <= size <= LARGEST_SIZE:
            raise ValueError(f"a {self.what} of {size} is outside 1 to {LARGEST_SIZE:,}: name sizes within it")
        return size


class Rate(click.ParamType):
    """A rate a second, above 0: `200` or `0.5`."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read the rate."""
        try:
            rate = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number: give requests a second, such as 200", param, ctx)
        if not (math.isfinite(rate) and rate > 0):
            self.fail(f"a rate of {value} a second is not a finite number above 0: give one such as 200", param, ctx)
        return rate


class ObjectiveType(click.ParamType):
    """A latency objective: `p99=50ms` wants 99 % of requests answered within 50 ms."""

    name = "objective"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Objective:
        """Read the objective."""
        from carpool.loadgen.stats import Objective

        if isinstance(value, Objective):
            return value
        try:
            return Objective.parse(str(value))
        except ConfigError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()
WAIT = Duration(allow_zero=True)
BYTES = Bytes()
BATCH_SIZES = Sizes("batch size")
LENGTHS = Sizes("length")
RATE = Rate()
OBJECTIVE = ObjectiveType()
