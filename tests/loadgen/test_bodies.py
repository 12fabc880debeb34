"""Request bodies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import ConfigError
from carpool.loadgen.bodies import InputTensor, oip_bodies, openai_bodies, read_bodies, read_inputs

if TYPE_CHECKING:
    from pathlib import Path


def body(datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The only input of one body for one input of this kind."""
    (raw,) = oip_bodies([InputTensor("x", datatype, shape)], ["a text"], np.random.default_rng(0))
    (found,) = json.loads(raw)["inputs"]
    assert isinstance(found, dict)
    return found


def test_texts_go_to_bytes_inputs() -> None:
    """A BYTES input takes the sentence."""
    assert body("BYTES", (-1,)) == {"name": "x", "datatype": "BYTES", "shape": [1], "data": ["a text"]}
    assert body("BYTES", (-1, 1))["shape"] == [1, 1]


@pytest.mark.parametrize(("datatype", "kind"), [("FP32", float), ("INT64", int), ("UINT8", int), ("BOOL", bool)])
def test_numbers_fill_the_shape_with_a_batch_of_one(datatype: str, kind: type) -> None:
    """A numeric input of [-1, 2, 3] takes six values of its type."""
    found = body(datatype, (-1, 2, 3))
    assert found["shape"] == [1, 2, 3]
    assert len(found["data"]) == 6
    assert {type(value) for value in found["data"]} == {kind}


@pytest.mark.parametrize("shape", [(-1, -1), (8, 4), (-1, 0)])
def test_a_shape_that_can_not_be_made_up_asks_for_data(shape: tuple[int, ...]) -> None:
    """Free dimensions beyond the batch are the user's to choose."""
    with pytest.raises(ConfigError, match=r"for which no item can be made up .* --data"):
        body("FP32", shape)


def test_an_unknown_datatype_asks_for_data() -> None:
    """A type outside the protocol is named beside the known ones."""
    with pytest.raises(ConfigError, match=r"the datatype 'COMPLEX64', not one of BYTES, BOOL, BF16, .* --data"):
        body("COMPLEX64", (-1, 2))


def test_metadata_is_read_as_the_protocol_says() -> None:
    """Inputs have a name, a datatype and a shape."""
    found = read_inputs({"name": "m", "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}]})
    assert found == (InputTensor("text", "BYTES", (-1,)),)


@pytest.mark.parametrize("metadata", [{}, {"inputs": []}, {"inputs": [{"name": "x"}]}, {"inputs": 3}])
def test_metadata_that_is_none_asks_for_data(metadata: dict[str, Any]) -> None:
    """A server that speaks another protocol under this path is explained."""
    with pytest.raises(ConfigError, match="--data"):
        read_inputs(metadata)


def test_openai_bodies_name_model_and_text() -> None:
    """One text each, not escaped to ASCII."""
    (raw,) = openai_bodies("minilm", ["déjà vu"])
    assert json.loads(raw) == {"model": "minilm", "input": "déjà vu"}


def test_bodies_of_a_file_are_sent_as_they_stand(tmp_path: Path) -> None:
    """Spaces and order within a line are kept; blank lines are not bodies."""
    path = tmp_path / "bodies.jsonl"
    path.write_text('{"b":  1, "a": 2}\n\n[3]\n', encoding="utf-8")
    assert read_bodies(path) == (b'{"b":  1, "a": 2}', b"[3]")


@pytest.mark.parametrize(
    ("text", "message"), [("\n", "holds 0 bodies"), ('{"a": 1}\n{"a"\n', "line 2 of .* is not JSON")]
)
def test_a_file_without_bodies_is_a_clear_error(tmp_path: Path, text: str, message: str) -> None:
    """Empty files and broken lines are found before the load starts."""
    path = tmp_path / "bodies.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_bodies(path)
    with pytest.raises(ConfigError, match="can't be read"):
        read_bodies(tmp_path / "missing.jsonl")
