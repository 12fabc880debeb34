"""The JSON Schemas in docs/reference/schemas/ say what the code reads."""

from __future__ import annotations

import tomllib

import jsonschema
import msgspec
import pytest

from tests.config.test_settings import FULL
from tools.write_schemas import DIRECTORY, published


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
