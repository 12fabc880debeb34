"""The command line's frame: finds a command by name, and turns every way to fail into an exit code.

Exit codes: 0 done; 1 the work failed; 2 wrong use (a bad option, argument or file); 130 stopped by Ctrl-C or SIGTERM,
with what was measured kept. With `--json`, a failure is the one JSON document on standard output, and the code is kept:
`{"error": {"type": ..., "message": ..., "exit_code": ...}}`. A command returns None for 0, or its exit code.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from carpool import __version__
from carpool.cli.output import Output
from carpool.errors import CarpoolError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is known by name and loaded when it runs.

    Args:
        target: Where it is, as `module:attribute`.
        summary: The line that `carpool --help` shows.
        extra: The optional dependencies that it needs (`pip install 'carpool[extra]'`).
    """

    target: str
    summary: str
    extra: str


COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "profile": Entry(
            "carpool.cli.profile:profile", "Measure what batching buys on a model and this machine.", "torch"
        ),
        "serve": Entry("carpool.cli.serve:serve", "Serve a model over HTTP, requests batched.", "serve"),
        "bench": Entry("carpool.cli.bench:bench", "Load a server and report rate, latency and goodput.", "serve"),
        "verify": Entry("carpool.cli.verify:verify", "Serve a plan and hold its prediction against reality.", "all"),
        "demo": Entry(
            "carpool.cli.demo:demo", "Profile a real model, serve it with and without batching, compare.", "all"
        ),
    }
)


class LazyCommands(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Name the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from their entries alone, so that `--help` is instant."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the arguments name, or say which one is near."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(_unknown_command(args[0]))
        return super().resolve_command(ctx, args)


def _unknown_command(name: str) -> str:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}"
    return f"no command {name!r}: {hint}"


@click.group(
    cls=LazyCommands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: carpool demo. Each command explains itself: carpool bench --help",
)
@click.version_option(__version__, message="carpool %(version)s")
def carpool() -> None:
    """Measure what batching buys on a model, serve it batched, and see whether it helped."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after `carpool`; `sys.argv` without its first where left out.

    Example:
        >>> main(["--version"])
        carpool 0.1.0
        0
    """
    args = list(sys.argv[1:] if arguments is None else arguments)
    # Read before parsing, because a parse that fails must already answer in JSON.
    output = Output(json="--json" in args)
    _stand_in_for_closed_streams()
    with _terminate_like_interrupt():
        with output.holding_stdout():
            code = _run(args, output)
        return _flush(code)


def _stand_in_for_closed_streams() -> None:
    """Give what was closed before we began (`carpool ... >&-`) a stream that takes everything and shows nothing."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 (for as long as it runs)


def _run(args: list[str], output: Output) -> int:
    """Run a command, every failure turned into a message and an exit code."""
    try:
        returned: Any = carpool.main(args=args, prog_name="carpool", standalone_mode=False, obj=output)
    except click.UsageError as error:
        return _wrong_use(error, output)
    except ModuleNotFoundError as error:
        return _missing(error, args, output)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 (a user must see a message, whatever failed)
        return _failed(error, output)
    return returned if isinstance(returned, int) else 0


def _failed(error: BaseException, output: Output) -> int:
    """Turn what a command raised into one message."""
    kind = type(error).__name__
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return _fail(output, "Interrupted", "stopped before there was anything to keep", INTERRUPTED)
    if isinstance(error, click.ClickException):
        return _fail(output, kind, error.format_message(), error.exit_code)
    if isinstance(error, CarpoolError):
        return _fail(output, kind, str(error), 2 if isinstance(error, ConfigError) else 1)
    return _unexpected(error, output)


def _fail(output: Output, kind: str, message: str, exit_code: int) -> int:
    output.error(kind, message, exit_code=exit_code)
    return exit_code


def _wrong_use(error: click.UsageError, output: Output) -> int:
    """Show a usage error as click does, with the way to the help."""
    if output.json:
        return _fail(output, "UsageError", error.format_message(), 2)
    error.show()
    return 2


def _missing(error: ModuleNotFoundError, args: list[str], output: Output) -> int:
    """Explain an optional dependency that is not installed."""
    root = (error.name or "").partition(".")[0]
    entry = next((COMMANDS[word] for word in args if word in COMMANDS), None)
    if root in ("", "carpool") or entry is None:
        return _unexpected(error, output)
    message = f"this command needs the package {root!r}, which is not installed: pip install 'carpool[{entry.extra}]'"
    return _fail(output, "MissingPackage", message, 1)


def _unexpected(error: BaseException, output: Output) -> int:
    """Say that the fault is ours, and how to see and report it."""
    if os.environ.get("CARPOOL_DEBUG") == "1":
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}"
    remedy = "Run it again with CARPOOL_DEBUG=1 and report the traceback and what `carpool --version` says."
    message = f"unexpected failure, a fault in carpool: {what}. {remedy}"
    return _fail(output, "Unexpected", message, 1)


def _flush(code: int) -> int:
    """Write out what is buffered, so that a reader that has gone shows here and not at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at exit; give it somewhere that still takes bytes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or 1
    return code


@contextlib.contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """Let SIGTERM stop a command as Ctrl-C does: cleanly, keeping what was measured."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # A shell starts background jobs with SIGINT ignored, and then asyncio would not turn it into a clean stop.
    if before[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
