"""Log lines: their forms, and that a log which can't be written harms nobody."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from carpool.errors import ConfigError
from carpool.serve.logs import ACCESS, LogFormat, log_access, logging_to

ANSWERED = {"method": "POST", "path": "/predict/m", "status": 200, "duration_ms": 1.5, "request_id": "r-1"}
FULL_DISK = Path("/dev/full")


def lines_of(path: Path) -> list[dict[str, object]]:
    """The JSON objects of a log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_request_is_one_json_object_with_its_id(tmp_path: Path) -> None:
    """Fields stand beside what every line has."""
    path = tmp_path / "serve.log"
    with logging_to(path, form="json", access=True):
        log_access(ANSWERED)
    (line,) = lines_of(path)
    assert line.pop("at")
    assert line == {"level": "INFO", "logger": ACCESS, "message": "POST /predict/m 200", **ANSWERED}


def test_text_lines_end_in_fields(tmp_path: Path) -> None:
    """People read when, how grave and what, then the rest."""
    path = tmp_path / "serve.log"
    with logging_to(path, access=True):
        log_access(ANSWERED)
    instant, rest = path.read_text(encoding="utf-8").rstrip().split(" ", 1)
    assert instant.endswith("Z")
    assert rest == ("INFO POST /predict/m 200 method=POST path=/predict/m status=200 duration_ms=1.5 request_id=r-1")


def test_requests_are_logged_only_where_asked_for(tmp_path: Path) -> None:
    """By default the log holds what is out of the ordinary."""
    path = tmp_path / "serve.log"
    with logging_to(path, form="json"):
        log_access(ANSWERED)
        logging.getLogger("carpool.serve").warning("the model %s failed", "m")
    assert [line["message"] for line in lines_of(path)] == ["the model m failed"]


def test_an_exception_brings_its_traceback(tmp_path: Path) -> None:
    """In one JSON line, so that programs can read it."""
    path = tmp_path / "serve.log"
    with logging_to(path, form="json"):
        try:
            int("of the model")
        except ValueError:
            logging.getLogger("carpool.serve").exception("unexpected")
    (line,) = lines_of(path)
    assert "ValueError: invalid literal" in str(line["exception"])


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_no_encoding_has_is_logged_by_its_number(form: LogFormat, tmp_path: Path) -> None:
    """A model may raise such texts."""
    path = tmp_path / "serve.log"
    with logging_to(path, form=form):
        logging.getLogger("carpool.serve").warning("half \ud83d")
    assert r"half \ud83d" in path.read_text(encoding="utf-8")


def test_a_full_disk_is_told_once_and_harms_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """The log is lost; whoever logs goes on."""
    with logging_to(FULL_DISK, access=True):
        for _ in range(3):
            log_access(ANSWERED)
    told = capsys.readouterr().err
    assert told.count("the log can't be written") == 1
    assert "No space left on device" in told


def test_a_log_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    """Before anything is served."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="name a writable file"), logging_to(tmp_path / "file" / "serve.log"):
        pass


def test_logging_is_left_as_it_was(tmp_path: Path) -> None:
    """A server in a test or a notebook changes nothing for whoever logs after it."""
    package = logging.getLogger("carpool")
    before = package.level, package.propagate, list(package.handlers), logging.getLogger(ACCESS).level
    with logging_to(tmp_path / "serve.log", access=True):
        pass
    assert (package.level, package.propagate, list(package.handlers), logging.getLogger(ACCESS).level) == before
