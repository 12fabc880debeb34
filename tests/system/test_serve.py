"""A server under the load of a program that we did not write, and its pages in a real browser."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.system.browser import chromium
from tests.system.server import Running, serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTIONS = 64
BODY = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 128], "data": [0.5] * 128}]}
SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nRESULT {"answered": %%d, "not_2xx": %%d, "broken": %%d}\\n',
    summary.requests, e.status, e.connect + e.read + e.write + e.timeout))
end
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    """The null model, served with batches of up to 32."""
    with serving("demo:null", "--max-batch-size", "32") as running:
        yield running


def drive(url: str, directory: Path) -> dict[str, int]:
    """Drive a server by wrk for two seconds; give how many requests were answered, refused, and cut off."""
    script = directory / "post.lua"
    script.write_text(SCRIPT % json.dumps(BODY), encoding="utf-8")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d2s", "-s", str(script), f"{url}/v2/models/null/infer"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, int] = json.loads(done.stdout.partition("RESULT ")[2])
    return result


def counters(url: str) -> dict[str, float]:
    """Read a server's metrics by Prometheus' own parser, summed over labels."""
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        page = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def test_wrk_gets_every_answer_and_the_metrics_agree(server: Running, tmp_path: Path) -> None:
    """No answer is lost or refused; the server counts as many items as wrk, but for those cut off at the end."""
    before = counters(server.url)
    seen = drive(server.url, tmp_path)
    after = counters(server.url)
    items = after["carpool_items_total"] - before["carpool_items_total"]
    batches = after["carpool_batches_total"] - before.get("carpool_batches_total", 0)
    assert (seen["not_2xx"], seen["broken"]) == (0, 0)
    assert seen["answered"] <= items <= seen["answered"] + CONNECTIONS
    assert items / batches > 8  # 64 connections at once are batched, not sent one by one
    assert after["carpool_failed_items_total"] == 0


def test_a_server_outlives_clients_that_vanish(server: Running, tmp_path: Path) -> None:
    """The load ends with requests under way; the next one is answered all the same."""
    drive(server.url, tmp_path)
    request = urllib.request.Request(f"{server.url}/v2/models/null/infer", json.dumps(BODY).encode())
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["outputs"][0]["shape"][0] == 1


@pytest.mark.parametrize("path", ["/metrics", "/v2", "/v2/models/null", "/v1/models"])
async def test_a_browser_shows_what_is_served(server: Running, path: str) -> None:
    """What a person opens by hand is shown as text, asks nothing of other hosts and brings no complaint."""
    async with chromium() as browser:
        visit = await browser.open(f"{server.url}{path}")
    assert (visit.complaints, visit.outside_requests) == ([], [])
    assert visit.text.strip()


def test_a_server_asked_to_stop_under_load_ends_with_success(tmp_path: Path) -> None:
    """SIGTERM while wrk is at it: what was accepted is answered, and the exit code is 0."""
    with serving("demo:null") as running:
        script = tmp_path / "post.lua"
        script.write_text(SCRIPT % json.dumps(BODY), encoding="utf-8")
        command = ["wrk", "-t1", "-c8", "-d2s", "-s", str(script), f"{running.url}/v2/models/null/infer"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
            while counters(running.url).get("carpool_items_total", 0.0) == 0:
                assert wrk.poll() is None, "wrk ended before its first request was answered"
            assert running.stop() == 0
            output, _ = wrk.communicate()
        assert json.loads(output.partition("RESULT ")[2])["not_2xx"] == 0
