"""Models in processes of their own: what crosses, what runs where, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool import Batcher
from carpool.errors import CarpoolError, ConfigError, InvalidItem, ModelError, WorkerDied
from carpool.models.target import load_target, wrap
from carpool.runtime.process.remote import RemoteModel
from tests.runtime import process_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENDED_WITHIN_S = 30


def outcomes_of(model: object, items: object, **options: object) -> list[object]:
    """Run items in a worker's process."""
    with Batcher(model, worker="process", **options) as batcher:  # type: ignore[arg-type]
        return batcher.map_outcomes(items)  # type: ignore[arg-type]


def run_script(path: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run a program of its own to its end."""
    path.write_text(textwrap.dedent(body), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=ENDED_WITHIN_S, check=False
    )


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - not a file of ours
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int]) -> list[int]:
    """Wait for processes to end; return those that do not."""
    import time

    stop_at = time.monotonic() + ENDED_WITHIN_S
    while (left := [pid for pid in pids if is_alive(pid)]) and time.monotonic() < stop_at:
        time.sleep(0.01)
    return left


def test_batches_run_in_another_process_and_come_back_in_order() -> None:
    """A thousand items, in full batches, none of them here."""
    assert outcomes_of(process_models.double, range(1000), max_batch_size=64) == [2 * n for n in range(1000)]
    (there,) = set(outcomes_of(process_models.pid, range(3)))
    assert there != os.getpid()


def test_each_worker_is_a_process_of_its_own() -> None:
    """Two workers, held until both have begun."""
    with Batcher(process_models.pid, worker="process", num_workers=2) as batcher:
        pids = [model.pid for model in batcher._models if isinstance(model, RemoteModel)]
    assert len({os.getpid(), *pids}) == 3
    assert wait_until_gone([pid for pid in pids if pid]) == []


def test_devices_give_each_a_worker() -> None:
    """As many workers as devices, whether threads or processes."""
    with Batcher("demo:null", worker="process", devices=["cpu", "cpu"], max_batch_size=4) as batcher:
        assert batcher.metrics.num_workers == 2
        assert len(batcher.map(batcher.model.examples(16))) == 16


@dataclass(frozen=True)
class Point:
    """A result of a class of the user's own."""

    x: int


@pytest.mark.parametrize(
    "items",
    [
        [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)],
        [np.arange(3), np.arange(4)],
        [np.zeros(3, np.float16), np.zeros(3, np.float32)],
        [np.array(["a", "bc"]), np.array(["d", "e"])],
        [np.zeros((0, 3)), np.zeros((0, 3))],
        [np.asfortranarray(np.arange(10_000.0).reshape(100, 100))] * 3,
        [{"a": np.arange(3), "b": "text"}, {"a": np.arange(9), "b": ""}],
        ["text", "", "\N{SNOWMAN}"],
        [b"\0" * 2_000_000, b"1"],
        [None, True, 1.5],
        [np.float32(1.5), np.float32(2.5)],
        [np.float32(1.5), np.int64(2)],
        [np.array(1.5), np.array(2.5)],
        [np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0))],
        [Point(1), (1, [2, Point(3)])],
    ],
    ids=lambda items: str(type(items[0]).__name__),
)
def test_items_and_results_cross_as_they_are(items: list[object]) -> None:
    """There and back again: equal in value, type and shape."""
    for before, after in zip(items, outcomes_of(process_models.echo, items), strict=True):
        if isinstance(before, np.ndarray):
            assert isinstance(after, np.ndarray)
            assert (after.dtype, after.flags.writeable) == (before.dtype, True)
            np.testing.assert_array_equal(after, before, strict=True)
        else:
            assert repr(after) == repr(before)


def test_an_array_of_100_megabytes_crosses_through_shared_memory() -> None:
    """Every byte of it, and each message has memory of its own: the first one is not overwritten by the second."""
    size = 25_000_000
    first, second = np.arange(size, dtype=np.float32), np.full(size, 7, np.float32)
    with Batcher(process_models.echo, worker="process", max_batch_size=1) as batcher:
        back, other = batcher.map([first, second])
        np.testing.assert_array_equal(back, first)
        np.testing.assert_array_equal(other, second)


def test_a_result_that_cannot_be_sent_fails_only_its_own_item() -> None:
    """The others are answered; the error says what to return."""
    outcomes = outcomes_of(process_models.unsendable, range(16))
    error = outcomes.pop(process_models.POISON)
    assert isinstance(error, ModelError)
    assert "the result can't be sent from the worker's process" in str(error)
    assert outcomes == [2 * n for n in range(16) if n != process_models.POISON]


def test_an_item_that_cannot_be_sent_fails_only_its_own_item() -> None:
    """A function made on the spot can't be pickled."""
    outcomes = outcomes_of(process_models.echo, [1, lambda: None, 2])
    assert outcomes[::2] == [1, 2]
    assert "an item can't be sent to the worker's process" in str(outcomes[1])


def test_an_error_that_cannot_be_made_here_is_told_by_its_text() -> None:
    """A class of the user's own, whose constructor takes what it does not keep."""
    error = outcomes_of(process_models.raising_odd, range(16))[process_models.POISON]
    assert type(error) is ModelError
    assert str(error) == "a leak in the roof"


def test_sys_exit_in_the_model_is_an_error_of_the_model() -> None:
    """Its process goes on."""
    with Batcher(process_models.exiting, worker="process") as batcher:
        before = batcher._models[0].pid  # type: ignore[attr-defined]
        error = batcher.map_outcomes(range(16))[process_models.POISON]
        assert "SystemExit: no more" in str(error)
        assert batcher._models[0].pid == before  # type: ignore[attr-defined]


def test_what_the_model_prints_does_not_come_between(capfd: pytest.CaptureFixture[str]) -> None:
    """Its standard output is ours for results: what is printed goes to the standard error."""
    assert outcomes_of(process_models.printing, [1, 2]) == [2, 4]
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "a line of the model\n" in captured.err
    assert "bytes of the model\n" in captured.err


def test_a_model_that_forks_is_answered_once() -> None:
    """The copy of its process does not answer as well, and does not stay behind."""
    assert outcomes_of(process_models.forking, range(100), max_batch_size=10) == [2 * n for n in range(100)]


def test_items_are_admitted_here_by_an_instance_that_is_not_loaded() -> None:
    """Its `check` refuses them before they are sent; its `load` is called where it runs."""
    refused, answered = outcomes_of(process_models.OnDevice, [1, 2])
    assert isinstance(refused, InvalidItem)
    assert isinstance(answered, tuple)
    assert (answered[0] != os.getpid(), answered[1]) == (True, True)


def test_a_model_that_only_a_file_names_runs_there_too(tmp_path: Path) -> None:
    """As `carpool serve` is given one."""
    file = tmp_path / "mine.py"
    file.write_text("def shout(texts):\n    return [text.upper() for text in texts]\n", encoding="utf-8")
    assert outcomes_of(f"{file}:shout", ["a", "b"]) == ["A", "B"]


def test_a_result_whose_class_only_the_worker_has_is_told(tmp_path: Path) -> None:
    """The file was never run here, so that what it defines can't be made here."""
    file = tmp_path / "own.py"
    file.write_text("class Own: pass\ndef make(items):\n    return [Own() for _ in items]\n", encoding="utf-8")
    model = load_target(f"{file}:make")
    remote = RemoteModel(model, model.recipe)  # type: ignore[arg-type]
    for name in [name for name in sys.modules if name.startswith("carpool_target_")]:
        del sys.modules[name]
    remote.load()
    try:
        with pytest.raises(ModelError, match="can't be read here"):
            remote.run([1])
    finally:
        remote.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lambda items: items, "can't be sent to a worker's process"),
        (lambda: process_models.SlowDouble().__call__, None),
    ],
)
def test_a_model_that_cannot_be_sent_is_refused_when_it_is_given(
    make: Callable[[], object], message: str | None
) -> None:
    """Before anything is started, with what to give instead; what can be sent is taken."""
    if message is None:
        Batcher(make(), worker="process")
        return
    with pytest.raises(ConfigError, match=message):
        Batcher(make(), worker="process")


def test_limits_that_cannot_be_are_refused() -> None:
    """Each names what was given."""
    with pytest.raises(ConfigError, match="worker is 'fibre'"):
        Batcher(process_models.double, worker="fibre")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="devices is 'cpu'"):
        Batcher(process_models.double, devices="cpu")
    with pytest.raises(ConfigError, match="num_workers is 3, and devices names 2"):
        Batcher("demo:null", num_workers=3, devices=["cpu", "cpu"])
    with pytest.raises(ConfigError, match="batch_timeout_s is 0"):
        Batcher(process_models.double, batch_timeout_s=0)
    with pytest.raises(ConfigError, match='worker="process"'):
        Batcher(process_models.double, max_worker_memory_bytes=1 << 30)


def test_threads_that_may_not_share_a_model_each_make_one() -> None:
    """A class is made once for each; a live object is refused, with what to do."""
    with Batcher(process_models.OnDevice, num_workers=2) as batcher:
        assert batcher._models[0] is not batcher._models[1]
    with Batcher(process_models.double, num_workers=2) as batcher:
        assert batcher._models[0] is batcher._models[1]
    with pytest.raises(ConfigError, match="OnDevice is a single live object"):
        Batcher(process_models.OnDevice(), num_workers=2)


def test_a_script_without_a_guard_is_told() -> None:
    """A worker's process runs the script's file to find its function; that must not start workers of its own."""
    script = """
    import carpool
    def double(numbers):
        return [2 * number for number in numbers]
    with carpool.Batcher(double, worker="process") as batcher:
        print(batcher.map([1, 2]))
    """
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        done = run_script(Path(directory) / "unguarded.py", script)
    assert done.returncode != 0
    assert "put what it does as a script under `if __name__ == '__main__':`" in done.stderr


def test_a_function_of_a_script_is_found_by_its_file(tmp_path: Path) -> None:
    """And a program that ends without closing its batcher ends at once, and leaves no process behind."""
    script = """
    import carpool
    def double(numbers):
        return [2 * number for number in numbers]
    if __name__ == "__main__":
        batcher = carpool.Batcher(double, worker="process").start()
        print(batcher.map([1, 2]), batcher._models[0].pid)
    """
    done = run_script(tmp_path / "guarded.py", script)
    assert (done.returncode, done.stderr) == (0, "")
    answer, _, pid = done.stdout.rpartition(" ")
    assert answer == "[2, 4]"
    assert wait_until_gone([int(pid)]) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_however_it_ends(tmp_path: Path, number: signal.Signals) -> None:
    """Also while a batch runs that would never end."""
    file = tmp_path / "parent.py"
    body = """
    import sys
    import carpool
    def hang(items):
        while True:
            pass
    if __name__ == "__main__":
        batcher = carpool.Batcher(hang, worker="process", num_workers=2).start()
        print(*[model.pid for model in batcher._models], flush=True)
        batcher.map([1, 2])
    """
    file.write_text(textwrap.dedent(body), encoding="utf-8")
    with subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert [pid for pid in pids if is_alive(pid)] == pids
        parent.send_signal(number)
        assert parent.wait(ENDED_WITHIN_S) == -number
    assert wait_until_gone(pids) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_it_to_their_parent_to_stop(number: signal.Signals) -> None:
    """Ctrl-C and a service manager's SIGTERM may reach all processes: the workers run on."""
    with Batcher(process_models.double, worker="process") as batcher:
        remote = batcher._models[0]
        assert isinstance(remote, RemoteModel)
        assert remote.pid is not None
        os.kill(remote.pid, number)
        before = remote.pid
        assert batcher.map([1, 2]) == [2, 4]
        assert remote.pid == before
        assert os.getpgid(before) != os.getpgid(0)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (process_models.Unloadable, WorkerDied, "ended with exit code 9.*while it loaded the model"),
        (process_models.Refusing, ModelError, r"load\(\) of Refusing raised FileNotFoundError: weights\.bin"),
    ],
)
def test_a_model_that_does_not_load_there_is_told_at_start(
    model: type, error: type[CarpoolError], message: str
) -> None:
    """Whether its process dies of it or says why; it is not tried for ever."""
    batcher = Batcher(model, worker="process")
    with pytest.raises(error, match=message):
        batcher.start()
    assert (batcher.ready, batcher.accepts) == (False, False)
    batcher.close()


def test_a_worker_starts_without_torch() -> None:
    """What a model does not need is not imported for it."""
    target = "tests.runtime.process_models:loaded"
    (loaded,) = outcomes_of(target, [None])
    assert isinstance(loaded, list)
    assert not {"torch", "asyncio", "carpool.runtime.batcher", "psutil"} & set(loaded)


def test_what_wrap_makes_can_be_made_again() -> None:
    """The recipe of a model names what it was made of."""
    assert wrap(process_models.double).recipe is not None
    assert load_target("demo:null").recipe is not None
