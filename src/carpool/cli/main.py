"""The command line's frame: finds a command by name, and turns every way to fail into an exit code.

Exit codes: 0 done, or a server stopped; 1 the work failed; 2 wrong use (a bad option, argument or file); 130 a
measurement stopped by Ctrl-C or SIGTERM, with what was measured kept. With `--json`, a failure is the one JSON document
on standard output, and the code is kept: `{"error": {"type": ..., "message": ..., "exit_code": ...}}`. A command gives
None for 0, or its exit code.
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
from typing import TYPE_CHECKING, Any, NoReturn

import click

from carpool import __version__
from carpool.cli.output import Output
from carpool.cli.streams import Losses, lossy_streams
from carpool.errors import CarpoolError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is known by name and loaded when it runs.

    Args:
        target: Where it is, as `module:attribute`.
        summary: The line that `carpool --help` shows.
        extra: The optional dependencies that it needs (`pip install 'carpool[extra]'`).
        until_stopped: Whether it goes on until it is stopped, so that a stop is no failure.
    """

    target: str
    summary: str
    extra: str
    until_stopped: bool = False

    @property
    def when_stopped(self) -> tuple[str, int]:
        """What to say of a stop that the command itself does not see to, and the exit code."""
        if self.until_stopped:
            return "stopped before the model was ready", 0
        return "stopped before there was anything to keep", INTERRUPTED


COMMANDS: Mapping[str, Entry] = MappingProxyType(
    {
        "profile": Entry(
            "carpool.cli.profile:profile", "Measure what batching buys on a model and this machine.", "torch"
        ),
        "plan": Entry("carpool.cli.plan:plan", "Choose how to serve a measured model under a load.", "all"),
        "train-plan": Entry(
            "carpool.cli.train_plan:train_plan",
            "Find the micro-batch that fits and what effective batches take.",
            "train",
        ),
        "serve": Entry(
            "carpool.cli.serve:serve", "Serve a model over HTTP, requests batched.", "serve", until_stopped=True
        ),
        "policy": Entry("carpool.cli.policy:policy", "Show and change how a server forms its batches.", "serve"),
        "bench": Entry("carpool.cli.bench:bench", "Load a server and report rate, latency and goodput.", "serve"),
        "verify": Entry("carpool.cli.verify:verify", "Serve a plan and hold its prediction against reality.", "all"),
        "demo": Entry("carpool.cli.demo:demo", "Profile a real model, serve it batched and not, and compare.", "all"),
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
    owns_process = arguments is None
    _stand_in_for_closed_streams()
    with lossy_streams() as losses, _stops(_entry(args), owns_process=owns_process):
        with output.holding_stdout():
            code = _run(args, output)
        sys.stdout.flush()
        code = _with_losses(code, losses, _entry(args))
        if owns_process and _still_runs():
            _leave(code)
        return code


def _entry(args: list[str]) -> Entry | None:
    """Return the command that the arguments name; None where they name none."""
    return next((COMMANDS[word] for word in args if word in COMMANDS), None)


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
        return _failed(error, args, output)
    return returned if isinstance(returned, int) else 0


def _failed(error: BaseException, args: list[str], output: Output) -> int:
    """Turn what a command raised into one message."""
    kind = type(error).__name__
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return _stopped(_entry(args), output)
    if isinstance(error, click.ClickException):
        return _fail(output, kind, error.format_message(), error.exit_code)
    if isinstance(error, CarpoolError):
        return _fail(output, kind, str(error), 2 if isinstance(error, ConfigError) else 1)
    return _unexpected(error, output)


def _stopped(entry: Entry | None, output: Output) -> int:
    message, code = entry.when_stopped if entry else ("stopped", INTERRUPTED)
    if code:
        return _fail(output, "Interrupted", message, code)
    output.note(message)
    return code


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
    entry = _entry(args)
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


def _with_losses(code: int, losses: Losses, entry: Entry | None) -> int:
    """Return the exit code of a command whose words may have been lost: what a server says is not its work."""
    if not losses.reason:
        return code
    click.echo(f"Error: standard output can't be written ({losses.reason}): send it to where there is room", err=True)
    return code if entry is not None and entry.until_stopped else code or 1


def _still_runs() -> bool:
    """Whether a thread of ours is left: it would be cut off when the interpreter is taken apart.

    Cut off amid PyTorch's native code it aborts the process, and to wait for it may take for ever.
    """
    return any(thread.name.startswith("carpool-") for thread in threading.enumerate())


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart."""
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


@contextlib.contextmanager
def _stops(entry: Entry | None, *, owns_process: bool) -> Iterator[None]:
    """Let SIGTERM stop a command as Ctrl-C does: cleanly, keeping what was measured."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    if entry is not None and entry.until_stopped and owns_process:
        for number in before:
            signal.signal(number, _stop_at_once(entry))
    else:
        _interrupt_on_both()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _interrupt_on_both() -> None:
    # A shell starts background jobs with SIGINT ignored, and then asyncio would not turn it into a clean stop.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))


def _stop_at_once(entry: Entry) -> Callable[[int, object], NoReturn]:
    """Return a handler for as long as the command has none of its own, when there is nothing yet to finish.

    It raises nothing, because what is imported at that time may swallow an exception, or abort on it.
    """
    message, code = entry.when_stopped

    def stop(_number: int, _frame: object) -> NoReturn:
        with contextlib.suppress(OSError):  # standard error may be closed
            os.write(2, f"{message}\n".encode())
        os._exit(code)

    return stop
