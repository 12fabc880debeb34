"""`carpool bench` from its words to its exit code, against a server on loopback."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from carpool.cli.main import main
from tests.loadgen.web import both_protocols, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ServerThread:
    """A server in a thread of its own, because the command keeps the main one."""

    def __init__(self, answer: Answer) -> None:
        self.url = ""
        self._answer = answer
        self._ready = threading.Event()
        self._done: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self._loop, self._done = asyncio.get_running_loop(), asyncio.Event()
        async with serving(self._answer) as self.url:
            self._ready.set()
            await self._done.wait()

    def start(self) -> str:
        """Serve, and give the base URL."""
        self._thread.start()
        self._ready.wait()
        return self.url

    def stop(self) -> None:
        """End the server and its thread."""
        assert self._loop is not None
        assert self._done is not None
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Start servers that end with the test."""
    servers: list[ServerThread] = []

    def start(answer: Answer) -> str:
        servers.append(ServerThread(answer))
        return servers[-1].start()

    yield start
    for server in servers:
        server.stop()


def document(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one JSON document on standard output."""
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_an_open_loop_is_reported_as_one_document(
    serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` gives every figure, and nothing else on standard output."""
    url = serve(both_protocols)
    assert main(["bench", url, "--rate", "500", "--duration", "100ms", "--objective", "p99=5s", "--json"]) == 0
    found = document(capsys)
    assert found["schema_version"] == 1
    assert found["loop"] == "open"
    assert found["num_ok"] == found["num_requests"] > 10
    assert found["asked_rate"] == 500
    assert found["offered_rate"] == pytest.approx(found["num_requests"] / 0.1)
    assert found["attainment"]["met"] is True
    assert found["latency_s"]["p50"]["value"] > 0


def test_people_get_tables_and_sentences(serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without `--json` the result is text that names the rate, the percentiles and the verdict."""
    url = serve(both_protocols)
    words = ["bench", url, "--connections", "2", "--requests", "20", "--objective", "p95=5s", "--api", "openai"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "Sustained" in shown
    assert "p95" in shown
    assert "Objective p95 within 5 s: met, 100.00% of all requests" in shown
    assert "In a closed loop clients wait for their answers" in shown


def test_a_trace_and_bodies_of_ones_own_are_sent(
    serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """With a full URL, the file's bodies leave at the trace's times; `--out` keeps every request."""
    seen: list[bytes] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(await request.read())
        assert request.headers["X-Key"] == "secret"
        return web.Response(body=b"ok")

    url = serve(answer) + "/custom"
    bodies, trace, out = tmp_path / "bodies.jsonl", tmp_path / "trace.csv", tmp_path / "new" / "out"
    bodies.write_text('{"n": 1}\n{"n": 2}\n', encoding="utf-8")
    trace.write_text("seconds\n5\n5.1\n5.2\n7\n", encoding="utf-8")
    words = ["bench", url, "--data", str(bodies), "--trace", str(trace), "--speed", "10", "--duration", "100ms"]
    assert main([*words, "--header", "X-Key: secret", "--out", str(out), "--json"]) == 0
    assert seen == [b'{"n": 1}', b'{"n": 1}', b'{"n": 2}', b'{"n": 1}']  # the first is the probe
    with (out / "requests.csv").open(encoding="utf-8", newline="") as file:
        intended = [float(row["intended_at_s"]) for row in csv.DictReader(file)]
    assert intended == pytest.approx([0.0, 0.01, 0.02])
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == document(capsys)
    assert (out / "latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("shape", [["on-off", "--on", "40ms", "--off", "10ms"], ["daily", "--period", "100ms"]])
def test_bursts_and_daily_curves_are_sent(
    serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str], shape: list[str]
) -> None:
    """Arrivals of an uneven rate are an open loop like any other, of about the rate that was asked for."""
    url = serve(both_protocols)
    assert main(["bench", url, "--rate", "400", "--duration", "100ms", "--arrivals", *shape, "--json"]) == 0
    found = document(capsys)
    assert found["loop"] == "open"
    assert 15 < found["num_ok"] < 80


def test_ctrl_c_stops_and_keeps_what_was_measured(
    serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An interrupt ends the load, the result is given, and the exit code says so."""
    count = 0

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count == 6:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        return web.Response(body=b"ok")

    url = serve(answer) + "/x"
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("{}\n", encoding="utf-8")
    words = ["bench", url, "--data", str(bodies), "--connections", "1", "--duration", "1h", "--timeout", "1h"]
    assert main([*words, "--json"]) == 130
    found = document(capsys)
    assert found["interrupted"] is True
    assert found["num_ok"] == 4
    assert [failure["kind"] for failure in found["failures"]] == ["open"]


def test_a_server_that_refuses_everything_is_a_failure(
    serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No success at all after the first request is exit 1, with the failures explained."""
    count = 0

    async def answer(_request: web.Request) -> web.StreamResponse:
        nonlocal count
        count += 1
        if count == 1:
            return web.Response(body=b"ok")
        return web.json_response({"error": "full"}, status=503, headers={"Retry-After": "1"})

    url = serve(answer) + "/x"
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text("{}\n", encoding="utf-8")
    assert main(["bench", url, "--data", str(bodies), "--rate", "200", "--duration", "50ms", "--seed", "1"]) == 1
    shown = capsys.readouterr().out
    assert "http 503" in shown
    assert "Retry-After: 1" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the load needs one of --rate, --trace and --connections, not none of them: give --rate 200"),
        (["--rate", "1", "--connections", "2"], "not --rate and --connections: give"),
        (["--rate", "0"], "a rate of 0 a second is not a finite number above 0"),
        (["--rate", "1", "--speed", "2"], "speed shapes trace arrivals, and these are poisson: leave it out, or name"),
        (["--rate", "1", "--burstiness", "2"], "burstiness shapes gamma arrivals, and these are poisson: leave it out"),
        (["--rate", "1", "--arrivals", "daily", "--peak-to-mean", "3"], "3.0 is not in the range 1<=x<=2"),
        (["--connections", "1", "--on", "2s"], "--on shapes an open loop, and --connections is a closed one: leave"),
        (["--rate", "1", "--header", "novalue"], "'novalue' is not a header: write a name, a colon and a value"),
        (["--rate", "1", "--duration", "soon"], "'soon' is not a duration"),
        (["--rate", "1", "--trace", "missing.csv"], "Path 'missing.csv' does not exist"),
    ],
)
def test_wrong_use_says_what_to_write(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Contradictions and wrong values exit with 2 before anything is sent."""
    assert main(["bench", "http://127.0.0.1:9", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_path_without_bodies_asks_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    """A full URL says where, and not what."""
    assert main(["bench", "http://127.0.0.1:9/v1/x", "--rate", "1"]) == 2
    assert "nothing says what to send there: add --data FILE, or drop the path" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing listens on port 9: the URL and the remedy, no traceback."""
    assert main(["bench", "http://127.0.0.1:9", "--rate", "1"]) == 1
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9/v1/models can't be reached: no connection to 127.0.0.1 port 9 (" in said
    assert "see that a server runs there (carpool serve starts one), and that host, port" in said
    assert "ssl" not in said


def test_an_output_that_can_not_be_written_is_found_before_the_load(
    serve: Callable[[Answer], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A directory under a file is refused at once, and not after half an hour of measuring."""
    file = tmp_path / "file"
    file.write_text("", encoding="utf-8")
    assert main(["bench", serve(both_protocols), "--rate", "1", "--duration", "1h", "--out", str(file / "out")]) == 2
    assert "can't be written to" in capsys.readouterr().err
