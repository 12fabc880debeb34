"""What commands print."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from carpool.cli.output import Output, to_json


@dataclass(frozen=True, slots=True)
class Point:
    """Something to print."""

    size: int
    where: Path


def test_documents_hold_what_commands_have_at_hand() -> None:
    """Dataclasses, paths, numpy values and arrays are written; what JSON lacks is null."""
    document = {
        "points": (Point(1, Path("out") / "a.json"),),
        "mean": np.float64(1.5),
        "num": np.int64(3),
        "ok": np.bool_(True),
        "array": np.array([1.0, np.nan]),
        "worst": float("inf"),
    }
    assert json.loads(to_json(document)) == {
        "points": [{"size": 1, "where": str(Path("out") / "a.json")}],
        "mean": 1.5,
        "num": 3,
        "ok": True,
        "array": [1.0, None],
        "worst": None,
    }


def test_what_can_not_be_written_is_named() -> None:
    """A value of some other kind is a fault of the command, said by name."""
    with pytest.raises(NotImplementedError, match="a result holds an object, which JSON can't"):
        to_json({"x": object()})


def test_a_second_document_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """There is only ever one."""
    output = Output(json=True)
    output.result({})
    with pytest.raises(RuntimeError, match="one JSON document and this is its second"):
        output.result({})


def test_without_json_no_document_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """People get text only; notes go to standard error."""
    output = Output()
    output.result({"rate": 1})
    output.say("words")
    output.note("progress")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("words\n", "progress\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_result_of_one_line_is_printed_either_way(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """On standard output, with or without `--json`, and nothing else there."""
    Output(json=as_json).result_line({"ratio": np.float64(1.5)})
    assert capsys.readouterr().out == '{"ratio":1.5}\n'
