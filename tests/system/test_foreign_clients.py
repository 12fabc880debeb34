"""Clients that need environments of their own, unchanged against the server: KServe's, an OpenAPI one, perf_analyzer.

The environments are made on the first run, under ``benchmarks/.envs``, and kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from envs import BENCHMARK_ENVIRONMENTS, environment

from tests.clients.repository import write_repository
from tests.system.server import Running, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

FOREIGN = Path(__file__).with_name("foreign")
TRITON = ["tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79"]
DEBIAN_LIBRARY = "libb64-0d"
LIMIT_S = 120

MOST_CONNECTIONS = 4


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve a repository of four models and a language model over HTTP and gRPC."""
    repository = write_repository(tmp_path_factory.mktemp("repository"))
    with serving(str(repository), "--grpc-port", "0") as running:
        yield running


def told_by(script: str, requirements: list[str], *addresses: str) -> Any:
    """Run a client in an environment of its own, and give the document that it prints."""
    python = environment(requirements[0].replace("==", "-"), requirements)
    command = [str(python), str(FOREIGN / script), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_kserve_s_inference_clients(server: Running) -> None:
    """Over REST in JSON and in binary, over gRPC typed and raw; their errors say what the server said."""
    told = told_by("kserve_client.py", ["kserve==0.21.0"], server.url, server.grpc)
    healthy = {"live": True, "ready": True, "model ready": True}
    for protocol, ways in (("REST", ("JSON", "binary")), ("gRPC", ("typed", "raw"))):
        error = told[protocol].pop("error")
        assert "there is no model 'nobody'" in error
        assert told[protocol] == {**healthy, **{way: [4, 8] for way in ways}}


def test_the_openapi_client_of_the_protocol(server: Running) -> None:
    """It writes every number as a float, whole numbers too."""
    told = told_by("open_inference_client.py", ["open-inference-openapi==2.0.0.1"], server.url)
    status, body = told.pop("error")
    assert status == 404
    assert "there is no model 'nobody'" in body
    assert told == {"server": "carpool", "inputs": ["values", "count"], "total": [4, 8], "id": "seven"}


def test_openai_s_client_of_the_version_before(server: Running) -> None:
    """2.x; the tests of clients in this environment try 3.x."""
    told = told_by("openai_client.py", ["openai==2.44.0"], server.url)
    vectors = [[8.0, 4.0, 0.5], [1.0, 0.0, 0.5]]
    assert told.pop("models") == ["embed", "lm", "pair", "slow", "upper"]
    assert told.pop("error") == "model_not_found"
    assert told == {"version": "2.44.0", **dict.fromkeys(("default", "float", "asyncio"), vectors)}


# -------------------------------------------------------------------------------------------------- perf_analyzer


@pytest.fixture(scope="module")
def null_server() -> Iterator[Running]:
    """Serve the null model over HTTP and gRPC."""
    with serving("demo:null", "--grpc-port", "0") as running:
        yield running


def debian_library() -> Path:
    """Unpack the library that perf_analyzer needs of Debian beside the environments; give its directory."""
    home = BENCHMARK_ENVIRONMENTS / DEBIAN_LIBRARY
    found = next(home.rglob("libb64.so*"), None)
    if found is None:
        home.mkdir(parents=True, exist_ok=True)
        download = ["apt-get", "download", "-qq", DEBIAN_LIBRARY]
        if subprocess.run(download, cwd=home, capture_output=True, check=False).returncode != 0:
            as_root = [] if os.geteuid() == 0 else ["sudo"]
            subprocess.run([*as_root, "apt-get", "update", "-qq"], check=True, capture_output=True)
            subprocess.run(download, cwd=home, capture_output=True, check=True)
        subprocess.run(["dpkg", "-x", str(next(home.glob("*.deb"))), str(home)], check=True)
        found = next(home.rglob("libb64.so*"))
    return found.parent


def perf_analyzer(*arguments: str) -> str:
    """Run perf_analyzer, which only this one wheel carries; give what it printed."""
    python = environment("tritonclient-2.50.0", TRITON, extra_arguments=["--no-deps"])
    cuda = next((python.parent.parent / "lib").glob("python*/site-packages/nvidia/cuda_runtime/lib"))
    libraries = {"LD_LIBRARY_PATH": f"{debian_library()}:{cuda}"}
    done = subprocess.run(
        [str(python.with_name("perf_analyzer")), *arguments, "--measurement-interval", "500", "-r", "3", "-s", "999"],
        capture_output=True,
        text=True,
        env={**os.environ, **libraries},
        timeout=LIMIT_S,
        check=False,
    )
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers(pattern: str, output: str) -> list[float]:
    """Find a figure in each of the reports."""
    return [float(found) for found in re.findall(pattern, output)]


def check_reports(output: str, num_reports: int) -> None:
    """See that each report has what the client and what the server counted, and that the two agree.

    An answer goes out before it is counted, so that the last one of each connection may be missing.
    """
    asked, answered = numbers(r"Request count: (\d+)", output), numbers(r"Successful request count: (\d+)", output)
    assert len(asked) == len(answered) == num_reports
    assert all(ours >= theirs - MOST_CONNECTIONS > 0 for theirs, ours in zip(asked, answered, strict=True))
    server_parts = r"overhead \d+ usec \+ queue (\d+) usec \+ compute input \d+ usec \+ compute infer (\d+) usec"
    parts = re.findall(server_parts, output)
    assert len(parts) == num_reports
    assert all(int(infer) >= 2000 for _, infer in parts)  # the null model waits 2 ms
    assert "Failed" not in output


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer_with_connections(null_server: Running, protocol: str) -> None:
    """Closed loops of one and four connections; the server's statistics are shown with each."""
    address = null_server.grpc if protocol == "grpc" else null_server.url.removeprefix("http://")
    output = perf_analyzer(
        "-m", "null", "-u", address, "-i", protocol, "--concurrency-range", f"1:{MOST_CONNECTIONS}:3"
    )
    check_reports(output, 2)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_perf_analyzer_with_a_rate(null_server: Running, protocol: str) -> None:
    """An open loop of requests of four rows."""
    address = null_server.grpc if protocol == "grpc" else null_server.url.removeprefix("http://")
    output = perf_analyzer("-m", "null", "-b", "4", "-u", address, "-i", protocol, "--request-rate-range", "50")
    asked = numbers(r"Request count: (\d+)", output)
    inferences = numbers(r"Inference count: (\d+)", output)
    assert len(asked) == 1
    assert inferences[0] >= 4 * asked[0] > 0


def test_perf_analyzer_over_a_stream(null_server: Running) -> None:
    """Requests over one bidirectional stream, side by side."""
    output = perf_analyzer(
        "-m", "null", "-u", null_server.grpc, "-i", "grpc", "--streaming", "--async", "--concurrency-range", "4"
    )
    assert numbers(r"Request count: (\d+)", output)[0] > 0
