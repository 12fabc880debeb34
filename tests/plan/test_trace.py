"""Recorded arrivals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError, SchemaError
from carpool.plan.trace import Trace, read_trace
from carpool.signals.event_log import EventWriter
from carpool.signals.events import BatchRan, ItemDropped, ItemRejected

DATA = Path(__file__).parent.parent / "data"


def written(tmp_path: Path, text: str) -> Path:
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
        (
            '{"timestamp": 27000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}\n'
            '{"timestamp": 27050, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}\n'
            '{"timestamp": 29000, "input_length": 891, "output_length": 1, "hash_ids": []}\n'
        ),
        '{"time": 1.0, "length": 4}\n{"time": 1.05, "length": 5}\n{"time": 3.0, "length": 6}\n',
    ],
    ids=["azure-2023", "azure-2024", "seconds", "bare", "jsonl", "jsonl-iso", "mooncake", "jsonl-lengths"],
)
def test_known_formats_give_seconds_from_the_first_arrival(tmp_path: Path, text: str) -> None:
    """Every format that is read gives the same three arrivals."""
    assert read_trace(written(tmp_path, text)).times_s == pytest.approx([0.0, 0.05, 2.0], abs=1e-6)


def test_an_azure_trace_is_read_as_the_csv_says() -> None:
    """Lengths are the file's own columns, times its gaps, as a reading by hand finds them."""
    path = DATA / "azure_conversation.csv"
    header, *lines = [line.split(",") for line in path.read_text().splitlines()]
    clocks = [line[0].split(" ")[1].split(":") for line in lines]
    seconds = [int(hour) * 3600 + int(minute) * 60 + float(second) for hour, minute, second in clocks]
    trace = read_trace(path)
    assert header == ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
    assert trace.times_s == pytest.approx([second - seconds[0] for second in seconds], abs=2e-6)
    assert trace.lengths is not None
    assert trace.output_lengths is not None
    assert [*zip(trace.lengths, trace.output_lengths, strict=True)] == [(int(line[1]), int(line[2])) for line in lines]


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4_000_000), st.integers(1, 200_000), st.integers(0, 4000)), min_size=1, max_size=20
    )
)
def test_a_mooncake_trace_is_read_as_its_json_says(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    """Its timestamps are milliseconds, of which several requests may share one; other keys are left alone."""
    rows.sort(key=lambda row: row[0])
    keys = ("timestamp", "input_length", "output_length")
    text = "\n".join(json.dumps(dict(zip(keys, row, strict=True)) | {"hash_ids": [0, 1]}) for row in rows)
    trace = read_trace(written(tmp_path_factory.mktemp("mooncake"), text))
    assert trace.lengths is not None
    assert trace.output_lengths is not None
    found = zip(trace.times_s * 1000 + rows[0][0], trace.lengths, trace.output_lengths, strict=True)
    assert [(round(at), *lengths) for at, *lengths in found] == rows


def test_seconds_with_lengths_are_told_from_milliseconds_by_the_columns_name(tmp_path: Path) -> None:
    """Only `timestamp` beside `input_length`, as a number, is Mooncake's; `seconds` is what it says."""
    text = '{"seconds": 1, "input_length": 4}\n{"seconds": 3, "input_length": 5}\n'
    assert read_trace(written(tmp_path, text)).times_s.tolist() == [0.0, 2.0]


def ran(arrived_at: tuple[float, ...], lengths: tuple[int, ...]) -> BatchRan:
    """A batch that ran at once."""
    return BatchRan(
        at=arrived_at[-1] + 1,
        batch_id=0,
        worker=0,
        reason="idle",
        arrived_at=arrived_at,
        lengths=lengths,
        padded_length=max(lengths),
        dispatched_at=arrived_at[-1],
        started_at=arrived_at[-1],
        finished_at=arrived_at[-1] + 1,
    )


@pytest.mark.parametrize("whole_directory", [True, False])
def test_carpools_own_events_are_a_trace_of_all_that_arrived(tmp_path: Path, *, whole_directory: bool) -> None:
    """Items are in order of arrival; one that was refused or dropped has the length of the one before it."""
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as writer:
        for event in (
            ran((100.0, 103.0), (7, 9)),
            ItemRejected(at=101.0, reason="queue_full"),
            ItemDropped(at=105.0, arrived_at=104.0, cause="deadline"),
            ran((102.0,), (8,)),
        ):
            writer.record(event)
    trace = read_trace(tmp_path if whole_directory else path)
    assert trace.times_s.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert trace.lengths is not None
    assert trace.lengths.tolist() == [7, 7, 8, 9, 9]
    assert trace.output_lengths is None


def test_events_of_which_none_was_an_arrival_are_an_empty_trace(tmp_path: Path) -> None:
    """The header alone holds nothing to replay."""
    path = tmp_path / "events.jsonl"
    EventWriter(path).close()
    with pytest.raises(ConfigError, match="holds no arrivals"):
        read_trace(path)
    path.write_text('{"schema_version":99,"kind":"carpool-events"}\n')
    with pytest.raises(SchemaError, match="schema_version is 99"):
        read_trace(path)


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
        ("time,length\n1,0\n", "line 2 .* has the length '0': write a whole number of tokens of 1 to"),
        ("time,length\n1,2.5\n", "line 2 .* has the length '2.5'"),
        ("time,length\n1,many\n", "line 2 .* has the length 'many'"),
        (
            "time,length,output_length\n1,5,-1\n",
            "line 2 .* has the length '-1': write a whole number of tokens of 0 to",
        ),
        ('{"time": 1}\n{"time"\n', "line 2 .* is not JSON"),
        ('{"when": 1}\n', "line 1 .* has none of the keys timestamp, time"),
        ('{"time": 1}\n[2]\n', "line 2 .* has none of the keys time, which the first line has"),
        ('{"time": 1, "length": 5}\n{"time": 2}\n', "line 2 .* has none of the keys length, which the first line has"),
        ("seconds\n0\n1e300\n", "runs over 1e\\+300 s, more than ten years: see that all its times are in one unit"),
    ],
)
def test_a_trace_that_is_no_trace_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    """Empty, unordered, negative and unreadable traces name the line and the remedy."""
    with pytest.raises(ConfigError, match=message):
        read_trace(written(tmp_path, text))


def test_a_trace_that_is_not_text_or_not_there_is_a_clear_error(tmp_path: Path) -> None:
    """A binary file, a missing one and a directory without events are told apart from an empty one."""
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    for path in (binary, tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError, match=r"can't be read .*: give a CSV or JSONL file of text"):
            read_trace(path)


def even(num: int) -> Trace:
    """A trace of one arrival a second, each as long as its number from 1."""
    return Trace(times_s=np.arange(float(num)), duration_s=float(num), lengths=np.arange(1, num + 1), source="even")


def test_a_trace_lasts_a_mean_gap_beyond_its_last_arrival(tmp_path: Path) -> None:
    """So its rate is that of its gaps; arrivals of one instant still cover some time."""
    assert read_trace(written(tmp_path, "0\n1\n4\n")).duration_s == 6.0
    assert read_trace(written(tmp_path, "5\n5\n")).duration_s == pytest.approx(1e-3)


def test_a_window_is_cut_and_played_faster() -> None:
    """The window's length is as played: 1 s at double speed holds 2 s of the trace; lengths stay with their items."""
    cut = even(10).window(start_s=3.0, duration_s=1.0, speed=2.0)
    assert cut.times_s.tolist() == [0.0, 0.5]
    assert cut.lengths is not None
    assert cut.lengths.tolist() == [4, 5]
    assert (cut.duration_s, cut.rate, cut.cut) == (1.0, 2.0, True)
    rest = even(10).window(start_s=8.0)
    assert (rest.times_s.tolist(), rest.duration_s, rest.cut) == ([0.0, 1.0], 2.0, False)


@given(
    first=st.tuples(st.floats(0, 40), st.floats(30, 60), st.floats(0.1, 10)),
    second=st.tuples(st.floats(0, 3), st.floats(0.1, 10)),
)
def test_a_window_of_a_window_says_where_it_is_in_the_file(
    first: tuple[float, float, float], second: tuple[float, float]
) -> None:
    """Start and speed are those of the file however often it is cut, so the same cut can be made from the file."""
    once = even(100).window(start_s=first[0], duration_s=first[1] / first[2], speed=first[2])
    twice = once.window(start_s=second[0] * once.duration_s / 4, speed=second[1])
    again = even(100).window(start_s=twice.start_s, duration_s=twice.duration_s, speed=twice.speed)
    assert again.duration_s == pytest.approx(twice.duration_s)
    # An arrival on the very edge of the window may fall on either side of it.
    assert abs(len(again) - len(twice)) <= 1
    assert np.diff(twice.times_s) == pytest.approx(1 / twice.speed)


def test_a_window_without_arrivals_names_the_traces_length() -> None:
    """Beyond the end there is nothing to send."""
    with pytest.raises(ConfigError, match="from 60 s lasting 5 s: the trace runs from 0 to 9 s; choose a window"):
        even(10).window(start_s=60.0, duration_s=5.0)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"speed": 0.0}, "a speed of 0.0 is not a finite number above 0"),
        ({"duration_s": -1.0}, "a duration of -1.0 is not a finite number above 0"),
        ({"start_s": -1.0}, "can't begin at -1 s: the trace begins at 0"),
    ],
)
def test_a_window_that_is_none_is_refused(knobs: dict[str, float], message: str) -> None:
    """Speeds and durations are above 0, and a window does not begin before its trace."""
    with pytest.raises(ConfigError, match=message):
        even(3).window(**knobs)
