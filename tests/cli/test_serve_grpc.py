"""`carpool serve --grpc-port`: gRPC beside HTTP, from start to SIGTERM."""

from __future__ import annotations

import queue
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import tritonclient.grpc

from carpool.cli.main import main
from tests.system.server import serving

if TYPE_CHECKING:
    import pytest


def test_a_port_in_use_is_a_failure_that_names_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    """Not wrong use: exit code 1."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "demo:null", "--port", "0", "--grpc-port", str(port)]) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert f"can't listen on 127.0.0.1 port {port}" in told
    assert "give another by --grpc-port" in told


def test_without_its_packages_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong use, exit code 2; without the option nobody misses them."""
    for name in [name for name in sys.modules if name.startswith("carpool.serve.grpc.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    assert main(["serve", "demo:null", "--port", "0", "--grpc-port", "0"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "server.grpc_port needs grpc: run `pip install 'carpool[grpc]'`" in told


def test_a_server_with_an_idle_stream_stops_at_once_when_asked() -> None:
    """The client is told, what it asked before has been answered, and the exit code is 0."""
    told: queue.Queue[Any] = queue.Queue()
    rows = tritonclient.grpc.InferInput("input", [1, 128], "FP32")
    rows.set_data_from_numpy(np.ones((1, 128), np.float32))
    with (
        serving("demo:null", "--grpc-port", "0", "--drain-timeout", "50s") as running,
        tritonclient.grpc.InferenceServerClient(running.grpc) as client,
    ):
        client.start_stream(lambda result, error: told.put((result, error)))
        client.async_stream_infer("null", [rows])
        answer, no_error = told.get(timeout=30)
        assert running.stop() == 0
        nothing, ended = told.get(timeout=30)  # well before the drain timeout, which an open stream does not use up
        client.stop_stream()
    assert (answer.as_numpy("output").item(), no_error, nothing) == (128.0, None, None)
    assert "the server is stopping" in str(ended)
