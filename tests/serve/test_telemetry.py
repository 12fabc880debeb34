"""What a server says of itself, brought together from its settings."""

from __future__ import annotations

import json
import logging
import socket
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from carpool.config.settings import TelemetrySettings
from carpool.errors import ConfigError
from carpool.serve.telemetry import telemetry
from carpool.signals.event_log import read_events
from tests.signals.records import batch

if TYPE_CHECKING:
    from pathlib import Path


def settings(**changes: Any) -> TelemetrySettings:
    """Settings that say nothing but what a test asks for."""
    values: dict[str, Any] = {"log_format": "json", "log_file": None, "access_log": False, "traces": None}
    return TelemetrySettings(**(values | {"trace_share": 1.0, "events": None} | changes))


def test_nothing_is_told_where_nothing_is_asked_for() -> None:
    """No sink costs a batch anything."""
    with telemetry(settings()) as telling:
        assert telling.sinks_of("m") == ()


def test_events_go_to_a_file_for_each_model(tmp_path: Path) -> None:
    """One that is loaded anew goes on in its file."""
    ran = batch((1.0,), start=2.0, end=3.0)
    with telemetry(settings(events=tmp_path / "events")) as telling:
        for model in ("m", "n", "m"):
            (sink,) = telling.sinks_of(model)
            sink.record(ran)
    assert read_events(tmp_path / "events" / "m.jsonl").events == (ran, ran)
    assert read_events(tmp_path / "events" / "n.jsonl").events == (ran,)


def test_the_log_goes_where_it_was_asked_for(tmp_path: Path) -> None:
    """In the form that was asked for."""
    with telemetry(settings(log_file=tmp_path / "serve.log")):
        logging.getLogger("carpool.serve").warning("hello")
    assert json.loads((tmp_path / "serve.log").read_text(encoding="utf-8"))["message"] == "hello"


def test_a_collector_that_is_away_harms_nobody(tmp_path: Path) -> None:
    """Traces are lost; requests are not."""
    with telemetry(settings(traces="http://127.0.0.1:9", log_file=tmp_path / "serve.log")) as telling:
        (sink,) = telling.sinks_of("m")
        sink.record(batch((1.0,), start=2.0, end=3.0, request_ids=("r",)))


def test_what_traces_need_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that brings it."""
    monkeypatch.delitem(sys.modules, "carpool.signals.tracing", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'carpool\[otel\]'"),
        telemetry(settings(traces="http://127.0.0.1:4318")),
    ):
        pass


def test_a_directory_of_events_that_is_none_is_refused_before_anything_is_served(tmp_path: Path) -> None:
    """With its name and the remedy."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="name a directory"), telemetry(settings(events=tmp_path / "file")):
        pass


@pytest.mark.parametrize("num_events", [1, 1000])
def test_events_that_do_not_fit_on_the_disk_are_told_once(tmp_path: Path, num_events: int) -> None:
    """With the file and the reason; serving and stopping go on as if nothing were."""
    path = tmp_path / "m.jsonl"
    path.symlink_to("/dev/full")
    with telemetry(settings(events=tmp_path, log_file=tmp_path / "serve.log")) as telling:
        (sink,) = telling.sinks_of("m")
        for _ in range(num_events):
            sink.record(batch((1.0,), start=2.0, end=3.0))
    (line,) = map(json.loads, (tmp_path / "serve.log").read_text(encoding="utf-8").splitlines())
    assert line["level"] == "ERROR"
    assert line["message"].startswith(f"events can't be written to {path} (No space left on device), and are lost")


def test_a_folder_that_is_not_there_is_an_error_and_not_made(tmp_path: Path) -> None:
    """Of the log, and of the directory of events: a name that is mistyped makes no folders."""
    for key in ("log_file", "events"):
        missing = tmp_path / "none" / key
        with (
            pytest.raises(ConfigError, match=f"No such file or directory.*{missing}"),
            telemetry(settings(**{key: missing})),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_dead_collector_holds_up_no_stop(tmp_path: Path) -> None:
    """What is left unsent is given up, and what its exporter says goes into the log."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and never answers
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        began_at = time.monotonic()
        with telemetry(settings(traces=address, log_file=tmp_path / "serve.log")) as telling:
            for number in range(3):
                exchange = types.SimpleNamespace(id=str(number), header=lambda _name: "", method="GET", path="/")
                route = types.SimpleNamespace(method="GET", pattern="/")
                telling.watch.began(exchange, route)  # type: ignore[arg-type]
                exchange.tenant = exchange.client = ""
                telling.watch.ended(exchange, route, 200, 0)  # type: ignore[arg-type]
        assert time.monotonic() - began_at < 10
