"""Recorded arrivals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool.errors import ConfigError
from carpool.plan.trace import read_trace, shape

if TYPE_CHECKING:
    from pathlib import Path


def trace(tmp_path: Path, text: str) -> Path:
    """A trace file of this text."""
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2023-11-16 18:17:03.9799600,4808,10\n"
            "2023-11-16 18:17:04.0299600,3180,8\n2023-11-16 18:17:05.9799600,110,27\n"
        ),
        (
            "TIMESTAMP,ContextTokens\n2024-05-10 00:00:00.009930+00:00,1\n"
            "2024-05-10 00:00:00.059930+00:00,1\n2024-05-10 00:00:02.009930+00:00,1\n"
        ),
        "user,seconds\na,12.5\nb,12.55\n\nc,14.5\n",
        "100\n100.05\n102\n",
        '{"timestamp": 1.0}\n{"timestamp": 1.05, "more": []}\n\n{"timestamp": 3.0}\n',
        (
            '{"TIMESTAMP": "2024-05-10T00:00:00Z"}\n{"timestamp": "2024-05-10T00:00:00.05Z"}\n'
            '{"timestamp": "2024-05-10T00:00:02Z"}\n'
        ),
    ],
    ids=["azure-2023", "azure-2024", "seconds", "bare", "jsonl", "jsonl-iso"],
)
def test_known_formats_give_seconds_from_the_first_arrival(tmp_path: Path, text: str) -> None:
    """Every format that is read gives the same three arrivals."""
    assert read_trace(trace(tmp_path, text)) == pytest.approx([0.0, 0.05, 2.0], abs=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no arrivals"),
        ("TIMESTAMP,x\n", "holds no arrivals"),
        ("a,b\n1,2\n", "has the columns a, b and none of timestamp, time"),
        ("time\n1\nsoon\n", "line 3 .* holds 'soon', which is no time"),
        ("time\n1\n-2\n", "line 3 .* holds '-2': a time is finite and at least 0"),
        ("time\nnan\n", "line 2 .* holds 'nan': a time is finite"),
        ("time\n5\n3\n", "line 3 .* is 2 s earlier than the line before it: sort"),
        ("x,time\n1,2\n3\n", "line 3 .* holds '', which is no time"),
        ('{"time": 1}\n{"time"\n', "line 2 .* is not JSON"),
        ('{"when": 1}\n', "line 1 .* has none of the keys timestamp, time"),
        ('{"time": 1}\n[2]\n', "line 2 .* has none of the keys"),
    ],
)
def test_a_trace_that_is_no_trace_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    """Empty, unordered, negative and unreadable traces name the line and the remedy."""
    with pytest.raises(ConfigError, match=message):
        read_trace(trace(tmp_path, text))


def test_a_trace_that_is_not_text_or_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """A binary file and a missing one are told apart from an empty one."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path in (binary, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=r"can't be read .*: give a CSV or JSONL file of text"):
            read_trace(path)


def test_a_window_is_cut_and_played_faster() -> None:
    """The window's length is as played: 1 s at double speed holds 2 s of the trace."""
    times = np.arange(10.0)
    assert shape(times, start_s=3.0, duration_s=1.0, speed=2.0).tolist() == [0.0, 0.5]
    assert shape(times, start_s=8.0).tolist() == [0.0, 1.0]


def test_a_window_without_arrivals_names_the_traces_length() -> None:
    """Beyond the end there is nothing to send."""
    with pytest.raises(ConfigError, match="from 60 s lasting 5 s: the trace runs from 0 to 9 s; choose a window"):
        shape(np.arange(10.0), start_s=60.0, duration_s=5.0)
