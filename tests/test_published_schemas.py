"""The JSON Schemas in docs/reference/schemas/ say what the code reads."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import jsonschema
import msgspec
import pytest

from carpool.signals.event_log import EventWriter
from carpool.signals.events import BatchFailed, BatchRan, ItemDropped, ItemRejected
from tests.config.test_settings import FULL
from tools.write_schemas import DIRECTORY, published

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", sorted(published()))
def test_a_published_schema_is_current(name: str) -> None:
    """If this fails, run `python tools/write_schemas.py` and look at what changed: does it need a new version?"""
    assert (DIRECTORY / name).read_bytes() == published()[name]


def test_nothing_else_is_published() -> None:
    """A schema of a file that no longer exists would mislead."""
    assert {path.name for path in DIRECTORY.iterdir()} == set(published())


@pytest.mark.parametrize("name", sorted(published()))
def test_a_published_schema_is_valid(name: str) -> None:
    """By the rules of JSON Schema itself."""
    jsonschema.Draft202012Validator.check_schema(msgspec.json.decode(published()[name]))


def test_the_schema_of_carpool_toml_takes_a_whole_file_and_refuses_a_batch_size_of_zero() -> None:
    """An editor that knows the schema says what Carpool would say."""
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(published()["carpool-toml.json"]))
    settings = tomllib.loads(FULL)
    assert validator.is_valid(settings)
    assert not validator.is_valid({**settings, "policy": {"max_batch_size": 0}})
    assert not validator.is_valid({**settings, "polcy": {}})


def test_the_schema_of_events_takes_every_line_that_is_written(tmp_path: Path) -> None:
    """The header and each kind of event, and nothing that is neither."""
    ran = BatchRan(
        at=1.0,
        batch_id=0,
        worker=0,
        reason="idle",
        arrived_at=(0.5,),
        lengths=(3,),
        padded_length=8,
        dispatched_at=0.6,
        started_at=0.7,
        finished_at=0.9,
    )
    with EventWriter(tmp_path / "events.jsonl") as writer:
        for event in (
            ran,
            ItemRejected(at=1.0, reason="queue full", tenant=""),
            ItemDropped(at=1.0, arrived_at=0.5, cause="deadline"),
            BatchFailed(at=1.0, started_at=0.5, batch_id=1, num_items=2, error="no"),
        ):
            writer.record(event)
    validator = jsonschema.Draft202012Validator(msgspec.json.decode(published()["events-line.json"]))
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(lines) == 5
    assert all(validator.is_valid(line) for line in lines)
    for bad in ({}, {**lines[1], "event": "Nothing"}, {**lines[1], "extra": 1}, {"schema_version": 3}):
        assert not validator.is_valid(bad)
