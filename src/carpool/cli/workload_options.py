"""The options that describe a load, the same for every command that plans, verifies or sends one."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from carpool.cli.options import DURATION, RATE, WAIT, Parsed, parse_rate, parse_sizes
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = TypeVar("Command", bound=Callable[..., Any])

ARRIVALS = ("poisson", "gamma", "constant", "on-off", "daily")
TRACE = click.Path(exists=True, path_type=Path)


def parse_lengths(text: str) -> tuple[int, ...]:
    """Read lengths to draw from: `64`, `16,32,64`, or `16..128` for every doubling; one that is repeated is likelier.

    Raises:
        ConfigError: A part is not a whole number within the limits, or a range runs downwards.

    Example:
        >>> parse_lengths("16,16,64")
        (16, 16, 64)
    """
    return tuple(length for part in text.split(",") for length in parse_sizes(part, what="length"))


def parse_priorities(text: str) -> dict[str, float]:
    """Read shares by priority: `0=0.9,5=0.1`, by the text that stands for each priority in a `carpool.toml`.

    Raises:
        ConfigError: A part is not a whole number, an equals sign and a share above 0.

    Example:
        >>> parse_priorities("0=0.9,5=0.1")
        {'0': 0.9, '5': 0.1}
    """
    found = {}
    for part in text.split(","):
        priority, _, share = part.partition("=")
        try:
            found[str(int(priority))] = parse_rate(share)
        except (ValueError, ConfigError):
            raise ConfigError(
                f"{part!r} is not the share of a priority: write a whole number, = and a share above 0, as in "
                "0=0.9,5=0.1"
            ) from None
    return found


# Each option with the key of [workload] that it sets, in the order of the help. No option has a default here: what was
# not given is left to the defaults of the keys, and what contradicts what was given can be told.
_SHAPE = {
    "arrivals": click.option(
        "--arrivals", type=click.Choice(ARRIVALS), help="How arrivals are spread.  [default: poisson]"
    ),
    "burstiness": click.option(
        "--burstiness", type=RATE, help="Of gamma arrivals; 1 is Poisson, above is burstier.  [default: 4]"
    ),
    "on": click.option("--on", type=DURATION, help="Of on-off arrivals: how long a burst lasts.  [default: 1s]"),
    "off": click.option("--off", type=WAIT, help="Of on-off arrivals: the silence after it.  [default: 1s]"),
    "peak_to_mean": click.option(
        "--peak-to-mean",
        type=click.FloatRange(1, 2),
        help="Of daily arrivals: the highest rate over the mean.  [default: 1.5]",
    ),
    "period": click.option("--period", type=DURATION, help="Of daily arrivals: how long a day is.  [default: 24h]"),
    "trace": click.option("--trace", type=TRACE, help="Arrivals as recorded: CSV, JSONL or Carpool's events."),
    "trace_start": click.option("--trace-start", type=WAIT, help="Begin this far into the trace."),
    "speed": click.option("--speed", type=RATE, help="Play the trace this many times as fast.  [default: 1]"),
}
_ITEMS = {
    "rate": click.option("--rate", type=RATE, help="Items a second on average; a trace is played as fast as that."),
    **_SHAPE,
    "trace_duration": click.option(
        "--trace-duration", type=DURATION, help="Use this much of the trace, as recorded.  [default: to its end]"
    ),
    "lengths": click.option(
        "--lengths",
        type=Parsed("sizes", parse_lengths),
        help="Tokens of typical items, as in 64 or 16,32,64.  [default: the trace's, or the profile's examples]",
    ),
    "deadline": click.option("--deadline", type=DURATION, help="When an answer is worth nothing.  [default: never]"),
    "patience": click.option("--patience", type=DURATION, help="When a client that waits leaves.  [default: never]"),
    "priorities": click.option(
        "--priorities", type=Parsed("shares", parse_priorities), help="Shares of the items, as in 0=0.9,5=0.1."
    ),
}
_GENERATIONS = {
    "output_lengths": click.option(
        "--output-lengths",
        type=Parsed("sizes", parse_lengths),
        help="Of what generates: tokens of typical answers, as in 100 or 20,300; --lengths are those of prompts.",
    ),
    "length_spread": click.option(
        "--length-spread",
        type=click.FloatRange(0, 3),
        help="Of what generates: standard deviation of the logarithm of lengths, such as 0.8.  [default: 0]",
    ),
    "shared_prefix": click.option(
        "--shared-prefix",
        type=click.IntRange(min=0),
        help="Of what generates: tokens that prompts begin with in common.  [default: 0]",
    ),
    "num_prefixes": click.option(
        "--num-prefixes",
        type=click.IntRange(min=1),
        help="Of what generates: how many such beginnings there are.  [default: 1]",
    ),
}
GENERATION_KEYS = tuple(f"workload.{key}" for key in _GENERATIONS)


def planned_options(command: Command) -> Command:
    """Give a command the options of a load of any kind, those of generations too, as `workload_options` does."""
    return _collected(command, _ITEMS | _GENERATIONS)


def workload_options(command: Command) -> Command:
    """Give a command the options of a load, and the argument `workload: dict[str, Any]` that they become.

    It holds what was given by dotted key, to be handed on as `load_settings(path, flags=workload)`; the `.workload` of
    what that returns makes a workload (`carpool.plan.workload_table.from_settings`).
    """
    return _collected(command, _ITEMS)


def arrival_options(command: Command) -> Command:
    """Give a command the options of how arrivals are spread, and the argument `workload` as `workload_options` does."""
    return _collected(command, _SHAPE)


def _collected(command: Command, options: dict[str, Callable[[Any], Any]]) -> Command:
    """Add options to a command, which is called with all their values in one argument."""

    @functools.wraps(command)
    def called(*args: Any, **given: Any) -> Any:
        values = {f"workload.{key}": _plain(given.pop(key)) for key in options}
        return command(*args, **given, workload={key: value for key, value in values.items() if value is not None})

    decorated: Any = called
    for add in reversed(options.values()):
        decorated = add(decorated)
    return cast("Command", decorated)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
