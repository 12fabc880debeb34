"""The command line's frame."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

import click
import pytest

import carpool
from carpool.cli.main import COMMANDS, main
from carpool.cli.options import json_option
from carpool.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.cli.output import Output


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Output], int | None]], None]:
    """Put a command of the test's own in the place of `carpool profile`."""

    def put(behave: Callable[[Output], int | None]) -> None:
        @click.command()
        @click.option("--size", type=int)
        @json_option
        def profile(output: Output, size: int | None) -> int | None:
            """Behave as the test says."""
            return behave(output)

        module = types.ModuleType("carpool.cli.profile")
        module.__dict__["profile"] = profile
        monkeypatch.setitem(sys.modules, "carpool.cli.profile", module)

    return put


def raising(error: BaseException) -> Callable[[Output], int | None]:
    """A command that raises."""

    def behave(_output: Output) -> int | None:
        raise error

    return behave


def run_python(code: str, **extra: Any) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **extra)


def test_help_lists_every_command_without_loading_any() -> None:
    """`carpool --help` imports no command, no numpy, no rich."""
    code = (
        "import sys; from carpool.cli.main import main; code = main(['--help']);"
        "heavy = {'numpy', 'rich', 'aiohttp', 'torch', 'asyncio', 'msgspec'} & set(sys.modules);"
        "frame = ('carpool.cli.main', 'carpool.cli.output', 'carpool.cli.streams');"
        "commands = [name for name in sys.modules if name.startswith('carpool.cli.') and name not in frame];"
        "print('LOADED', sorted(heavy), commands, code)"
    )
    printed = run_python(code).stdout
    for name, entry in COMMANDS.items():
        assert re.search(rf"{name} +{re.escape(entry.summary)}", printed)
    assert "LOADED [] [] 0" in printed


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`carpool --version` says which one."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"carpool {carpool.__version__}\n"


def test_an_unknown_command_is_wrong_use_and_the_near_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the keyboard is answered with the command that was meant."""
    assert main(["profil"]) == 2
    assert "no command 'profil': did you mean 'profile'?" in capsys.readouterr().err
    assert main(["zzz"]) == 2
    assert f"the commands are {', '.join(COMMANDS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "kind", "message"),
    [
        (ConfigError("a batch size of 0"), 2, "ConfigError", "a batch size of 0"),
        (ModelError("the model raised"), 1, "ModelError", "the model raised"),
        (click.BadParameter("no"), 2, "UsageError", "Invalid value: no"),
        (click.ClickException("no"), 1, "ClickException", "no"),
        (KeyboardInterrupt(), 130, "Interrupted", "stopped before there was anything to keep"),
        (
            ZeroDivisionError("x / 0"),
            1,
            "Unexpected",
            "unexpected failure, a fault in carpool: ZeroDivisionError: x / 0.",
        ),
    ],
)
def test_failures_are_a_message_and_an_exit_code(
    install: Callable[[Callable[[Output], int | None]], None],
    capsys: pytest.CaptureFixture[str],
    *,
    error: BaseException,
    code: int,
    kind: str,
    message: str,
) -> None:
    """Without `--json` on standard error, with it as the one document on standard output; never a traceback."""
    install(raising(error))
    assert main(["profile"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"Error: {message}" in shown.err
    assert "Traceback" not in shown.err

    assert main(["profile", "--json"]) == code
    shown = capsys.readouterr()
    assert shown.err.strip() == ""
    found = json.loads(shown.out)["error"]
    assert (found["type"], found["exit_code"]) == (kind, code)
    assert found["message"].startswith(message)


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--json"]])
def test_a_server_that_is_stopped_before_it_serves_has_not_failed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was to go on until it is stopped: exit code 0, a sentence, and no document of an error."""

    @click.command()
    @json_option
    def serve(output: Output) -> None:
        """Be stopped while loading."""
        raise KeyboardInterrupt

    module = types.ModuleType("carpool.cli.serve")
    module.__dict__["serve"] = serve
    monkeypatch.setitem(sys.modules, "carpool.cli.serve", module)
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err.strip()) == ("", "stopped before the model was ready")


def test_a_traceback_is_shown_to_those_who_ask(
    install: Callable[[Callable[[Output], int | None]], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CARPOOL_DEBUG=1 shows where an unexpected failure came from."""
    install(raising(ZeroDivisionError("x / 0")))
    monkeypatch.setenv("CARPOOL_DEBUG", "1")
    assert main(["profile"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_wrong_option_is_json_too(
    install: Callable[[Callable[[Output], int | None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What fails before the command runs still answers in JSON."""
    install(lambda _output: None)
    assert main(["profile", "--json", "--size", "many"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


def test_a_command_gives_its_exit_code_and_its_document(
    install: Callable[[Callable[[Output], int | None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """What a command returns is the exit code; words go to standard error beside a document."""

    def behave(output: Output) -> int | None:
        output.say("half way")
        output.result({"rate": 2})
        return 130

    install(behave)
    assert main(["profile", "--json"]) == 130
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"rate": 2}
    assert shown.err == "half way\n"
    assert main(["profile"]) == 130
    assert capsys.readouterr().out == "half way\n"


def test_a_failure_after_the_document_goes_to_standard_error(
    install: Callable[[Callable[[Output], int | None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output holds one document, whatever happens after it."""

    def behave(output: Output) -> int | None:
        output.result({"rate": 2})
        raise ModelError("late")

    install(behave)
    assert main(["profile", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"rate": 2}
    assert shown.err == "Error: late\n"


NOISY = (
    "import os, sys, types, click; from carpool.cli import main as m; from carpool.cli.options import json_option;"
    "noise = lambda: (print('a model prints'), os.system('echo so does its child'));"
    "command = click.Command('profile', callback=lambda output: (noise(), output.result({'rate': 2}), noise()) and 0);"
    "module = types.ModuleType('carpool.cli.profile'); module.profile = json_option(command);"
    "sys.modules['carpool.cli.profile'] = module;"
    "sys.exit(m.main(['profile', '--json']))"
)


def test_what_a_model_prints_stays_out_of_the_document() -> None:
    """Python's own print and that of a child process go to standard error, before and after the document."""
    done = run_python(NOISY)
    assert json.loads(done.stdout) == {"rate": 2}
    assert done.stderr.count("a model prints") == done.stderr.count("so does its child") == 2
    assert done.returncode == 0


def test_a_standard_output_that_is_closed_is_no_failure() -> None:
    """`carpool ... >&-` ends as it would have."""
    done = run_python("import sys; sys.stdout = None; from carpool.cli.main import main; sys.exit(main(['--version']))")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_package_names_its_extra(
    install: Callable[[Callable[[Output], int | None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """An optional dependency that is not there is explained with the line to install it."""
    install(raising(ModuleNotFoundError("No module named 'torch'", name="torch.nn")))
    assert main(["profile"]) == 1
    assert "needs the package 'torch', which is not installed: pip install 'carpool[torch]'" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_a_fault(
    install: Callable[[Callable[[Output], int | None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is told to install a part of carpool."""
    install(raising(ModuleNotFoundError("No module named 'carpool.x'", name="carpool.x")))
    assert main(["profile"]) == 1
    assert "a fault in carpool: ModuleNotFoundError" in capsys.readouterr().err


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Put the handler of SIGINT back after a test that changes it."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("interrupt", [signal.default_int_handler, signal.SIG_IGN], ids=["foreground", "background"])
def test_sigterm_stops_like_ctrl_c(
    install: Callable[[Callable[[Output], int | None]], None], interrupt: signal.Handlers
) -> None:
    """SIGTERM reaches a command as KeyboardInterrupt, in a shell's background too, and the handlers are put back."""
    signal.signal(signal.SIGINT, interrupt)
    before = signal.getsignal(signal.SIGTERM)
    held: list[str] = []

    def behave(output: Output) -> int | None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        except KeyboardInterrupt:
            held.append("kept")
            raise
        return None

    install(behave)
    assert main(["profile"]) == 130
    assert held == ["kept"]
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is interrupt


@pytest.mark.parametrize("words", [1, 100_000])
def test_a_reader_that_goes_away_gives_no_traceback(words: int) -> None:
    """`carpool ... | head` ends quietly, whether it breaks while printing or at the end."""
    code = (
        "import sys, click, types;"
        "from carpool.cli import main as m;"
        f"command = click.Command('profile', callback=lambda: [click.echo('x' * 70) for _ in range({words})] and None);"
        "module = types.ModuleType('carpool.cli.profile'); module.profile = command;"
        "sys.modules['carpool.cli.profile'] = module;"
        "sys.exit(m.main(['profile']))"
    )
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as broken:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=broken, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == ""
    assert done.returncode == 0
