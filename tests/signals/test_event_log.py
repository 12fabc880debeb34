"""Files of events: what is written is read back, within bounds, and damage is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.errors import ConfigError, SchemaError
from carpool.signals.event_log import EventWriter, older_part, read_events
from carpool.signals.events import BatchFailed, Event, ItemDropped, ItemRejected
from tests.signals.records import batch

if TYPE_CHECKING:
    from pathlib import Path

EVENTS: tuple[Event, ...] = (
    batch((0.125, 0.25), start=0.5, end=0.75, predicted_s=0.2),
    ItemRejected(at=1.0, reason="queue_full", tenant='a "b"\n'),
    ItemDropped(at=1.5, arrived_at=1.0, cause="cancelled"),
    BatchFailed(at=2.0, started_at=1.75, batch_id=3, num_items=2, error="ValueError: no"),
    BatchFailed(at=2.0, started_at=1.75, batch_id=3, num_items=2, error="ValueError: no", arrived_at=(1.5,)),
)


def write(path: Path, events: tuple[Event, ...] = EVENTS, *, max_bytes: int = 4096) -> None:
    """Write events to a new file."""
    with EventWriter(path, max_bytes=max_bytes) as writer:
        for event in events:
            writer.record(event)
    assert writer.failure is None


def test_events_come_back_as_they_were(tmp_path: Path) -> None:
    """Every kind of event survives the file exactly."""
    write(tmp_path / "deep" / "events.jsonl")
    log = read_events(tmp_path / "deep" / "events.jsonl")
    assert log.events == EVENTS
    assert not log.truncated


def test_first_line_says_the_version(tmp_path: Path) -> None:
    """The header comes first, with its version as first key."""
    write(tmp_path / "events.jsonl")
    first = (tmp_path / "events.jsonl").read_text().splitlines()[0]
    assert first == '{"schema_version":2,"kind":"carpool-events"}'


def test_file_of_version_1_is_read_its_failures_taking_no_time(tmp_path: Path) -> None:
    """It did not say when a run that failed had begun; a part that was set aside may be older than the file."""
    path = tmp_path / "events.jsonl"
    write(path, EVENTS[:1])
    older_part(path).write_text(
        '{"schema_version":1,"kind":"carpool-events"}\n'
        '{"event":"ItemRejected","at":0.5,"reason":"queue_full","tenant":""}\n'
        '{"event":"BatchFailed","at":2.0,"batch_id":3,"num_items":2,"error":"ValueError: no"}\n'
    )
    assert read_events(path).events == (
        ItemRejected(at=0.5, reason="queue_full"),
        BatchFailed(at=2.0, started_at=2.0, batch_id=3, num_items=2, error="ValueError: no"),
        EVENTS[0],
    )


def test_unfinished_last_line_is_left_out_and_said(tmp_path: Path) -> None:
    """A writer that was killed in the middle of a line costs that event only."""
    path = tmp_path / "events.jsonl"
    write(path)
    path.write_bytes(path.read_bytes()[:-5])
    log = read_events(path)
    assert log.events == EVENTS[:-1]
    assert log.truncated


def test_file_is_bounded_and_the_latest_events_are_kept_in_order(tmp_path: Path) -> None:
    """A full file is set aside once; together they hold an unbroken tail."""
    path = tmp_path / "events.jsonl"
    events = tuple(ItemRejected(at=float(number), reason="queue_full") for number in range(500))
    write(path, events, max_bytes=2048)
    assert path.stat().st_size <= 2048
    assert older_part(path).stat().st_size <= 2048
    kept = read_events(path).events
    assert 20 < len(kept) < 500
    assert kept == events[-len(kept) :]


def test_new_writer_does_not_mix_with_what_an_older_one_left(tmp_path: Path) -> None:
    """A file begun anew starts empty, its older part included."""
    path = tmp_path / "events.jsonl"
    write(path, EVENTS * 20, max_bytes=1024)
    write(path, EVENTS[:1])
    assert read_events(path).events == EVENTS[:1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema_version":9,"kind":"carpool-events"}\n', r"line 1: schema_version is 9; known versions: 1, 2"),
        (b"", "no complete first line"),
        (b"not json\n", "line 1"),
        (
            b'{"schema_version":2,"kind":"carpool-events"}\n{"event":"BatchFailed","at":1,"batch_id":0}\n',
            "line 2: .*started_at",
        ),
        (
            b'{"schema_version":1,"kind":"carpool-events"}\n{"event":"BatchFailed","batch_id":0}\n',
            "line 2: .*`at`",
        ),
        (
            b'{"schema_version":1,"kind":"carpool-events"}\n{"event":"Boom"}\n',
            "line 2: event 'Boom' is none of BatchRan",
        ),
        (b'{"schema_version":1,"kind":"carpool-events"}\n{"event":"ItemRejected","at":1}\n', "line 2: .*reason"),
        (b'{"schema_version":1,"kind":"carpool-events"}\n{"event"\n', "line 2"),
        (
            b'{"schema_version":1,"kind":"carpool-events"}\n{"event":"ItemRejected","at":1,"reason":"x","tenants":""}\n',
            "line 2: .*'tenants'.*'tenant'",
        ),
    ],
)
def test_damage_is_named_by_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    """Unknown versions, unknown kinds, missing and unknown keys, broken lines."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(content)
    with pytest.raises(SchemaError, match=message):
        read_events(path)


def test_events_after_closing_are_ignored(tmp_path: Path) -> None:
    """A batch that ends after the file was closed does no harm."""
    writer = EventWriter(tmp_path / "events.jsonl")
    writer.record(EVENTS[0])
    writer.flush()
    writer.close()
    writer.record(EVENTS[1])
    writer.flush()
    assert read_events(tmp_path / "events.jsonl").events == EVENTS[:1]


def test_a_full_disk_is_told_while_events_are_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the first event that did not fit, not at the end, and once."""
    (tmp_path / "events.jsonl").symlink_to("/dev/full")
    with EventWriter(tmp_path / "events.jsonl") as writer:
        for _ in range(1000):
            writer.record(EVENTS[0])
        writer.flush()
        assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert len(caplog.records) == 1


def test_failing_disk_stops_the_writing_but_not_the_batches(tmp_path: Path) -> None:
    """The first error is kept, later events are let go."""
    path = tmp_path / "events.jsonl"
    with EventWriter(path, max_bytes=1024) as writer:
        older_part(path).mkdir()  # setting the full file aside must fail
        for _ in range(20):
            writer.record(EVENTS[0])
    assert isinstance(writer.failure, OSError)


def test_unusable_path_or_bound_is_refused_at_once(tmp_path: Path) -> None:
    """A directory is no file, and no event fits ten bytes."""
    with pytest.raises(ConfigError, match="can't write events"):
        EventWriter(tmp_path)
    with pytest.raises(ConfigError, match="at most 10 bytes"):
        EventWriter(tmp_path / "events.jsonl", max_bytes=10)
    with pytest.raises(ConfigError, match="cannot read"):
        read_events(tmp_path / "missing.jsonl")
