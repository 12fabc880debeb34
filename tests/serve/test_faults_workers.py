"""Workers that are killed, crash or hang behind a whole server: what was accepted is answered over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from carpool.cli.main import main
from carpool.core import Policy
from carpool.errors import WorkerDied
from carpool.models.target import wrap
from carpool.serve.offer import Offer
from carpool.serve.served import Served
from tests.runtime import process_models
from tests.runtime.fakes import until
from tests.system.server import Running, serving

if TYPE_CHECKING:
    from collections.abc import Callable

WITHIN_S = 60
NUM_REQUESTS = 300
POISON = 13.0
MODEL = """
import ctypes, os, time

def model(rows):
    time.sleep(0.002)
    values = [float(row[0]) for row in rows]
    if 13.0 in values:
        ctypes.string_at(0)
    while 14.0 in values:
        time.sleep(60)
    return [[2 * value] for value in values]

model.examples = [[1.0], [2.0]]
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A model that doubles, crashes at 13 and hangs at 14."""
    file = tmp_path / "mine.py"
    file.write_text(MODEL, encoding="utf-8")
    return f"{file}:model"


def ask(url: str, value: float) -> tuple[int, Any]:
    """Send one row; return the status and the answer."""
    tensor = {"name": "input", "shape": [1, 1], "datatype": "FP64", "data": [value]}
    body = json.dumps({"inputs": [tensor]}).encode()
    request = urllib.request.Request(
        f"{url}/v2/models/model/infer", body, {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=WITHIN_S) as answer:
            return answer.status, json.load(answer)["outputs"][0]["data"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def workers_of(running: Running) -> list[int]:
    """The processes that the server has started."""
    return [child.pid for child in psutil.Process(running.process.pid).children()]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    stop_at = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < stop_at
        time.sleep(0.01)


def test_a_worker_killed_under_load_loses_no_request(target: str) -> None:
    """Three times: every request is answered, with its own result."""
    values = [float(100 + number) for number in range(NUM_REQUESTS)]
    with serving(target, "--worker", "process") as running:
        before = workers_of(running)
        with ThreadPoolExecutor(16) as pool:
            futures = {pool.submit(ask, running.url, value): value for value in values}
            for number, future in enumerate(as_completed(futures, WITHIN_S)):
                if number in (50, 120, 190):
                    with contextlib.suppress(ProcessLookupError, IndexError):
                        os.kill(workers_of(running)[0], signal.SIGKILL)
                assert future.result() == (200, [2 * futures[future]])
        assert workers_of(running) != before
        assert running.stop() == 0


def test_a_request_that_crashes_its_worker_fails_alone(target: str) -> None:
    """Those that share its batch are answered; the error says what happened, and the server serves on."""
    values = [float(number) for number in range(32) if number != 14]
    with serving(target, "--worker", "process", "--max-batch-size", "32") as running:
        with ThreadPoolExecutor(len(values)) as pool:
            answers = dict(zip(values, pool.map(lambda value: ask(running.url, value), values), strict=True))
        status, said = answers.pop(POISON)
        assert status == 500
        assert "was ended by SIGSEGV" in json.dumps(said)
        assert answers == {value: (200, [2 * value]) for value in answers}
        assert ask(running.url, 1.0) == (200, [2.0])
        assert running.stop() == 0


def test_a_request_that_hangs_its_worker_fails_alone(target: str) -> None:
    """After the limit, and the worker is replaced."""
    with serving(target, "--worker", "process", "--batch-timeout", "300ms") as running:
        status, said = ask(running.url, 14.0)
        assert status == 500
        assert "took longer than batch_timeout, 300 ms" in json.dumps(said)
        assert ask(running.url, 1.0) == (200, [2.0])
        assert running.stop() == 0


def test_a_stop_that_reaches_the_workers_as_well_is_a_drain(target: str) -> None:
    """As service managers do it: SIGTERM to every process; what was accepted is answered all the same."""
    values = [float(100 + number) for number in range(64)]
    with serving(target, "--worker", "process", "--workers", "2", "--max-batch-size", "1") as running:
        workers = workers_of(running)
        with ThreadPoolExecutor(len(values)) as pool:
            futures = [pool.submit(ask, running.url, value) for value in values]
            next(as_completed(futures, WITHIN_S))
            for pid in [*workers, running.process.pid]:
                os.kill(pid, signal.SIGTERM)
            answers = []
            for future in futures:
                with contextlib.suppress(urllib.error.URLError, ConnectionError):  # came after the stop: not accepted
                    answers.append(future.result(WITHIN_S))
        assert running.process.wait(WITHIN_S) == 0
        assert all(status in (200, 503) for status, _ in answers)
        assert sum(status == 200 for status, _ in answers) >= 1
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_workers_do_not_outlive_a_server_that_is_killed(target: str) -> None:
    """Also while one of them is stuck in a batch."""
    with serving(target, "--worker", "process", "--workers", "2") as running:
        workers = workers_of(running)
        assert len(workers) == 2
        with ThreadPoolExecutor(1) as pool:
            stuck = pool.submit(ask, running.url, 14.0)
            running.process.kill()
            with pytest.raises((urllib.error.URLError, ConnectionError)):
                stuck.result(WITHIN_S)
        wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_a_model_that_dies_while_it_loads_ends_the_server_with_why(tmp_path: Path) -> None:
    """Exit code 1, and no traceback."""
    file = tmp_path / "dying.py"
    file.write_text(
        "import os\nclass Dying:\n    def load(self): os._exit(4)\n    def __call__(self, rows): return rows\n",
        encoding="utf-8",
    )
    command = [str(Path(sys.executable).with_name("carpool")), "serve", f"{file}:Dying", "--port", "0"]
    done = subprocess.run(
        [*command, "--worker", "process"], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 1
    assert "ended with exit code 4" in done.stderr
    assert "while it loaded the model" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--devices", "cpu,cpu", "--device", "cpu"], "leave one of them out"),
        (["--devices", "cpu,,cpu"], "'cpu,,cpu' is no list of devices"),
        (["--worker", "fibre"], "'fibre' is not one of"),
        (["--max-worker-memory", "1GiB"], 'worker="process"'),
        (["--batch-timeout", "0"], "model.batch_timeout"),
    ],
)
def test_settings_that_cannot_be_are_told(
    target: str, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 2."""
    assert main(["serve", target, "--port", "0", *options]) == 2
    assert said in capsys.readouterr().err


async def test_the_index_of_models_says_why_one_does_not_answer_for_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its only worker died, and can't be started again yet; what is asked meanwhile is accepted."""
    monkeypatch.setenv("CARPOOL_TEST_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr("carpool.runtime.restarts._FIRST_PAUSE_S", 60.0)
    monkeypatch.setattr("carpool.runtime.restarts._MOST_PAUSES", 1)
    served = Served(wrap(process_models.OnceThenDead), name="m", policy=Policy(), worker="process")
    await asyncio.to_thread(served.start)
    try:
        future = served.batcher.enqueue(process_models.POISON)
        await until(lambda: "while it loaded" in served.trouble)
        (state,) = Offer.of(served).index()
        assert (state.state, served.ready) == ("LOADING", False)
        assert "ended with exit code 5" in state.reason
        served.check_ready()
    finally:
        await asyncio.to_thread(served.close, 30.0)
    with pytest.raises(WorkerDied):
        await future
