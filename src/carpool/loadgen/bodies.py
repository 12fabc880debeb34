"""What is sent: request bodies in the formats that servers of models take, built before the load starts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

NUM_BODIES = 512
FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
LARGEST_INTEGER = 100  # fits every integer type, and every vocabulary


@dataclass(frozen=True, slots=True)
class InputTensor:
    """One input of a model, as Open Inference Protocol metadata names it; -1 in the shape is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def openai_bodies(model: str, texts: Sequence[str]) -> tuple[bytes, ...]:
    """Build bodies for `/v1/embeddings`, one text each."""
    return tuple(_encode({"model": model, "input": text}) for text in texts)


def read_inputs(metadata: Mapping[str, Any]) -> tuple[InputTensor, ...]:
    """Read the inputs out of a model's metadata.

    Raises:
        ConfigError: The metadata names no input, or not as the protocol says.
    """
    try:
        inputs = tuple(
            InputTensor(str(one["name"]), str(one["datatype"]), tuple(int(size) for size in one["shape"]))
            for one in metadata["inputs"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"the model's metadata is not what the Open Inference Protocol says ({error!r} in its inputs): "
            "give bodies of your own with --data"
        ) from None
    if not inputs:
        raise ConfigError("the model's metadata names 0 inputs: give bodies of your own with --data")
    return inputs


def oip_bodies(inputs: Sequence[InputTensor], texts: Sequence[str], rng: np.random.Generator) -> tuple[bytes, ...]:
    """Build bodies for `/v2/models/{name}/infer`, one item each.

    Args:
        inputs: The model's inputs; BYTES take the texts, numbers are drawn at random.
        texts: One for each body.
        rng: Draws the numbers.

    Raises:
        ConfigError: An input has a type or a shape that can't be made up.

    Example:
        >>> oip_bodies([InputTensor("text", "BYTES", (-1,))], ["a text"], np.random.default_rng(0))
        (b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"data":["a text"]}]}',)
    """
    return tuple(_encode({"inputs": [_tensor(one, text, rng) for one in inputs]}) for text in texts)


def _tensor(tensor: InputTensor, text: str, rng: np.random.Generator) -> dict[str, object]:
    shape = _concrete(tensor)
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": shape,
        "data": _data(tensor, int(np.prod(shape)), text, rng),
    }


def _concrete(tensor: InputTensor) -> list[int]:
    """Fix the shape at a batch of one."""
    first, *rest = tensor.shape or (1,)
    if first not in (-1, 1) or any(size < 1 for size in rest):
        raise ConfigError(
            f"the input {tensor.name!r} has the shape {list(tensor.shape)}, for which no item can be made up "
            "(known are [-1] and [-1, n]): give bodies of your own with --data"
        )
    return [1, *rest]


def _data(tensor: InputTensor, num: int, text: str, rng: np.random.Generator) -> list[object]:
    if tensor.datatype == "BYTES":
        return [text] * num
    if tensor.datatype in FLOATS:
        return [round(value, 4) for value in rng.standard_normal(num).tolist()]
    if tensor.datatype in INTEGERS:
        return list(rng.integers(0, LARGEST_INTEGER, num).tolist())
    if tensor.datatype == "BOOL":
        return list((rng.random(num) < 0.5).tolist())  # noqa: PLR2004 (a fair coin)
    known = ", ".join(("BYTES", "BOOL", *sorted(FLOATS), *sorted(INTEGERS)))
    raise ConfigError(
        f"the input {tensor.name!r} has the datatype {tensor.datatype!r}, not one of {known}: "
        "give bodies of your own with --data"
    )


def read_bodies(path: Path) -> tuple[bytes, ...]:
    """Read bodies from a file of one JSON document a line, which are sent as they stand.

    Raises:
        ConfigError: The file can't be read, is empty, or a line is not JSON.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(
            f"the bodies in {path} can't be read ({error}): give a file of one JSON body a line"
        ) from None
    bodies = tuple(_checked(line, number, path) for number, line in enumerate(lines, start=1) if line.strip())
    if not bodies:
        raise ConfigError(f"{path} holds 0 bodies: give at least one line of JSON")
    return bodies


def _checked(line: bytes, number: int, path: Path) -> bytes:
    try:
        json.loads(line)
    except ValueError as error:
        raise ConfigError(f"line {number} of {path} is not JSON ({error}): give one body a line") from None
    return line


def _encode(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
