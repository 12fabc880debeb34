"""Versioned files: round trips, migration, and errors that say where and what to do."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.config.document import Migrations, decode, encode, read, schema, write
from carpool.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from pathlib import Path


def rename_oven(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 1 called the temperature `oven`, in tens of degrees."""
    return {**{key: value for key, value in raw.items() if key != "oven"}, "temperature_c": 10.0 * raw["oven"]}


def add_steps(raw: dict[str, Any]) -> dict[str, Any]:
    """Version 2 had no steps."""
    return {**raw, "steps": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of a recipe."""

    name: str
    minutes: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A document with two older versions."""

    MIGRATIONS: ClassVar[Migrations] = {1: rename_oven, 2: add_steps}
    schema_version: int = 3
    temperature_c: float
    steps: tuple[Step, ...]
    notes: dict[str, str] = field(default_factory=dict)
    lead: Step | None = None


RECIPE = Recipe(temperature_c=180.0, steps=(Step(name="mix"), Step(name="bake", minutes=40.0)), notes={"by": "me"})


def problem(data: str, source: str = "recipe.json") -> str:
    """Return the message that reading this text raises."""
    with pytest.raises(SchemaError) as caught:
        decode(data.encode(), Recipe, source)
    return str(caught.value)


def test_a_document_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Write, read, compare; directories are made on the way."""
    path = tmp_path / "out" / "recipe.json"
    write(path, RECIPE)
    assert read(path, Recipe) == RECIPE


def test_the_version_is_the_first_key() -> None:
    """A person opening the file, or a program reading its head, sees the version at once."""
    assert next(iter(json.loads(encode(RECIPE)))) == "schema_version"


def test_an_older_version_is_migrated_step_by_step() -> None:
    """Version 1 goes through 2 to 3."""
    recipe = decode(b'{"schema_version": 1, "oven": 18}', Recipe, "old.json")
    assert recipe == Recipe(temperature_c=180.0, steps=())


@pytest.mark.parametrize("version", [0, 4, 9, "'1'", "true", "null"])
def test_an_unknown_version_is_named_with_the_known_ones(version: object) -> None:
    """The message has the value, the versions that can be read, and what to do."""
    text = str(version).replace("'", '"')
    message = problem(f'{{"schema_version": {text}, "temperature_c": 1, "steps": []}}')
    assert message.startswith("recipe.json: schema_version is ")
    assert "known versions: 1, 2, 3. Read it with the version of Carpool that wrote it" in message


def test_a_file_without_a_version_is_refused() -> None:
    """It is some other file."""
    assert problem("{}").startswith("recipe.json: it has no schema_version; known versions: 1, 2, 3.")


def test_an_unknown_key_names_its_path_and_the_nearest_known_key() -> None:
    """Also deep inside, where the types are nested and optional."""
    text = '{"schema_version": 3, "temperature_c": 1, "steps": [{"name": "mix", "minuts": 2}], "lead": {"nam": "x"}}'
    assert problem(text) == (
        "recipe.json: unknown key 'steps[0].minuts': did you mean 'minutes'?; "
        "unknown key 'lead.nam': did you mean 'name'?"
    )


def test_an_unknown_key_like_no_other_lists_the_known_ones() -> None:
    """Where nothing is near, all are shown."""
    message = problem('{"schema_version": 3, "temperature_c": 1, "steps": [{"name": "mix", "zzz": 2}]}')
    assert message == "recipe.json: unknown key 'steps[0].zzz': the keys known there are minutes, name"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"schema_version": 3, "temperature_c": "hot", "steps": []}',
            "recipe.json: temperature_c is 'hot': expected float, got str; correct that value",
        ),
        (
            '{"schema_version": 3, "temperature_c": 1, "steps": [{"name": "a"}, {"name": 7}]}',
            "recipe.json: steps[1].name is 7: expected str, got int; correct that value",
        ),
        (
            '{"schema_version": 3, "temperature_c": 1, "steps": 5}',
            "recipe.json: steps is 5: expected array, got int; correct that value",
        ),
        (
            '{"schema_version": 3, "temperature_c": 1, "steps": [{}]}',
            "recipe.json: steps[0] lacks the key 'name': add it, or write the file again",
        ),
        (
            '{"schema_version": 3, "steps": []}',
            "recipe.json: the document lacks the key 'temperature_c': add it, or write the file again",
        ),
        (
            '{"schema_version": 3, "temperature_c": 1, "steps": [], "notes": {"by": 3}}',
            "recipe.json: notes[...] is wrong: expected str, got int; correct that value",
        ),
    ],
)
def test_a_wrong_type_names_the_path_and_what_was_found(text: str, expected: str) -> None:
    """The message has the dotted path, the value, and what belongs there."""
    assert problem(text) == expected


def test_truncated_json_names_line_and_column() -> None:
    """A file cut off in the middle says where it ends."""
    message = problem('{"schema_version": 3,\n "temperature_c": 18')
    assert message.startswith(
        "recipe.json: line 2, column 21: Expecting ',' delimiter (it ends there: the file may be tru"
    )


def test_broken_json_names_line_and_column() -> None:
    """A stray word in the middle is not called a truncation."""
    message = problem('{"schema_version": 3,\n "temperature_c": hot, "steps": []}')
    assert message.startswith("recipe.json: line 2, column 19: Expecting value; it must be one complete JSON object")


@pytest.mark.parametrize("text", ["[1]", "3", '{"schema_version": NaN}', "[" * 100_000, ""])
def test_what_is_not_a_json_object_is_refused(text: str) -> None:
    """Whatever it is, the source is named and nothing but a SchemaError leaves."""
    assert problem(text).startswith("recipe.json: ")


def test_bytes_that_are_not_text_are_refused() -> None:
    """A binary file names the line and the byte."""
    with pytest.raises(SchemaError, match=r"recipe\.json: line 2: byte 0xff is not UTF-8"):
        decode(b"{\n\xff}", Recipe, "recipe.json")


def test_broken_toml_names_line_and_column() -> None:
    """The standard parser's own place is passed on."""
    message = problem("schema_version = 3\ntemperature_c = = 4\n", "recipe.toml")
    assert message == "recipe.toml: Invalid value (at line 2, column 17); correct the TOML there"


def test_a_document_can_be_toml() -> None:
    """The same type, read from a file whose name ends in .toml."""
    text = b'schema_version = 3\ntemperature_c = 180\nsteps = [{name = "mix"}]\n'
    assert decode(text, Recipe, "recipe.toml") == Recipe(temperature_c=180.0, steps=(Step(name="mix"),))


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_a_schema_error(data: bytes) -> None:
    """Bad input never ends in a traceback."""
    for source in ("some.json", "some.toml"):
        with pytest.raises(SchemaError):
            decode(data, Recipe, source)


@given(st.integers(0, len(encode(RECIPE)) - 3))
def test_every_truncation_of_a_document_is_a_schema_error(end: int) -> None:
    """Wherever a file is cut off, reading says so."""
    with pytest.raises(SchemaError, match=r"^cut\.json: "):
        decode(encode(RECIPE)[:end], Recipe, "cut.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With what the system says about it."""
    with pytest.raises(ConfigError, match=r"cannot read .*none\.json: No such file or directory; check the path"):
        read(tmp_path / "none.json", Recipe)


def test_what_cannot_be_read_back_is_never_written(tmp_path: Path) -> None:
    """JSON has no infinity: the old file stays, and the message names the value."""
    path = tmp_path / "recipe.json"
    write(path, RECIPE)
    with pytest.raises(SchemaError, match=r"temperature_c is None: expected float, got null"):
        write(path, Recipe(temperature_c=float("inf"), steps=()))
    assert read(path, Recipe) == RECIPE


def test_a_failed_write_keeps_the_old_file_and_leaves_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up before the rename loses nothing."""
    path = tmp_path / "recipe.json"
    write(path, RECIPE)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot write .*recipe\.json: No space left on device; choose a place"):
        write(path, Recipe(temperature_c=1.0, steps=()))
    assert read(path, Recipe) == RECIPE
    assert [entry.name for entry in tmp_path.iterdir()] == ["recipe.json"]


def test_writing_where_a_file_stands_for_a_directory_is_a_config_error(tmp_path: Path) -> None:
    """The path is named, with what is wrong with it."""
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match=r"cannot write .*recipe\.json"):
        write(tmp_path / "out" / "recipe.json", RECIPE)


def test_a_link_keeps_pointing_at_what_was_replaced(tmp_path: Path) -> None:
    """Writing through a link changes the file that it names."""
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write(tmp_path / "link.json", RECIPE)
    assert (tmp_path / "link.json").is_symlink()
    assert read(tmp_path / "real.json", Recipe) == RECIPE


def test_the_schema_accepts_and_refuses_what_reading_does() -> None:
    """Checked by an independent validator: jsonschema."""
    validator = jsonschema.Draft202012Validator(schema(Recipe, title="Recipe"))
    good = json.loads(encode(RECIPE))
    assert validator.is_valid(good)
    for bad in ({**good, "extra": 1}, {**good, "schema_version": 2}, {**good, "steps": [{"name": 3}]}, {}):
        assert not validator.is_valid(bad)
