"""The Open Inference Protocol, version 2, REST with JSON: requests into items, results into answers.

Everything here is a pure function of bytes and values.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from carpool.serve.faults import Fault, bad_request
from carpool.serve.tensors import JsonTensor, read_tensor, to_field, to_rows, write_results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.serve.datatypes import Array
    from carpool.serve.signature import Shape, Signature

VERSION = "1"
_PRIORITY_LIMIT = 1_000_000
_LONGEST_US = 10**15

T = TypeVar("T")


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Parameters(msgspec.Struct):
    """The parameters that mean something here; clients may send others."""

    priority: int = 0
    timeout: int | None = None


class _Request(msgspec.Struct):
    inputs: list[JsonTensor]
    id: str = ""
    parameters: _Parameters = msgspec.field(default_factory=_Parameters)
    outputs: list[_Wanted] = []


class _Answer(msgspec.Struct, omit_defaults=True):
    model_name: str
    model_version: str
    outputs: list[JsonTensor]
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a request asks for.

    Args:
        items: one a row, as the model takes them.
        id: the client's own name for the request.
        priority: higher goes sooner; below zero is background work.
        timeout_s: after so long the answer is worth nothing; None leaves that to the server.
        wanted: the outputs to answer with; empty for all.
    """

    items: list[Any]
    id: str
    priority: int
    timeout_s: float | None
    wanted: tuple[str, ...]


_decode = msgspec.json.Decoder(_Request).decode
_encode = msgspec.json.Encoder().encode


def decode_json(decode: Any, body: bytes) -> Any:
    """Decode JSON from a client.

    Raises:
        Fault: it is not JSON, nested too deep, or not what the decoder expects.
    """
    try:
        return decode(body)
    except RecursionError:
        raise bad_request("the body is nested too deep to be read: flatten its lists") from None
    except msgspec.ValidationError as error:
        raise bad_request(f"the body is JSON, but not this request: {error}") from None
    except ValueError as error:  # malformed, truncated, or not UTF-8
        size = f"{len(body):,} bytes"
        raise bad_request(f"the body of {size} is not JSON ({error}): send one whole JSON object") from None


def parse_request(body: bytes, signature: Signature, *, max_rows: int) -> Call:
    """Read an inference request.

    Args:
        body: JSON, as it came.
        signature: what the model takes.
        max_rows: the most rows that one request may have.

    Raises:
        Fault: it is not a request that this model can answer; the message says why.
    """
    request: _Request = decode_json(_decode, body)
    parameters = request.parameters
    if not -_PRIORITY_LIMIT <= parameters.priority <= _PRIORITY_LIMIT:
        raise bad_request(f"the priority must be from {-_PRIORITY_LIMIT:,} to {_PRIORITY_LIMIT:,}: 0 is usual")
    if parameters.timeout is not None and parameters.timeout <= 0:
        raise bad_request("the timeout has passed already: give microseconds above 0, or leave it out")
    return Call(
        items=_items(request.inputs, signature.inputs, max_rows),
        id=request.id,
        priority=parameters.priority,
        timeout_s=None if parameters.timeout is None else min(parameters.timeout, _LONGEST_US) / 1e6,
        wanted=_wanted(request.outputs, signature.outputs),
    )


def _items(tensors: list[JsonTensor], expected: Shape | None, max_rows: int) -> list[Any]:
    if not tensors:
        raise bad_request("the request has 0 inputs: give at least one")
    arrays = [read_tensor(tensor, max_rows=max_rows) for tensor in tensors]
    if len({len(array) for array in arrays}) > 1:
        rows = ", ".join(f"{tensor.name!r} {len(array)}" for tensor, array in zip(tensors, arrays, strict=True))
        raise bad_request(f"the inputs have different numbers of rows ({rows}): their first size is the batch")
    return _unknown(arrays) if expected is None else _known(tensors, arrays, expected)


def _unknown(arrays: list[Array]) -> list[Any]:
    """Make items for a model that has not said what it takes."""
    if len(arrays) > 1:
        raise bad_request(f"the request has {len(arrays)} inputs, and this model takes one: leave the others out")
    return to_rows(arrays[0], None)


def _known(tensors: list[JsonTensor], arrays: list[Array], expected: Shape) -> list[Any]:
    by_name = {tensor.name: (tensor, array) for tensor, array in zip(tensors, arrays, strict=True)}
    names = [field.name for field in expected.fields]
    if sorted(by_name) != sorted(names) or len(tensors) != len(names):
        given = ", ".join(repr(tensor.name[:60]) for tensor in tensors)
        raise bad_request(f"the inputs are {given}: this model takes {', '.join(map(repr, names))}")
    columns = [to_rows(to_field(*by_name[field.name], field), field) for field in expected.fields]
    if expected.container == "one":
        return columns[0]
    rows = zip(*columns, strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows] if expected.container == "dict" else list(rows)


def _wanted(outputs: list[_Wanted], declared: Shape | None) -> tuple[str, ...]:
    names = tuple(output.name for output in outputs)
    known = {field.name for field in declared.fields} if declared else set()
    for name in names:
        if known and name not in known:
            raise bad_request(f"the output {name[:60]!r} was asked for: this model gives {', '.join(sorted(known))}")
    return names


def write_answer(call: Call, results: Sequence[Any], *, model: str, output_name: str, signature: Signature) -> bytes:
    """Write the answer to a request.

    Args:
        call: the request.
        results: one a row, in order.
        model: its name.
        output_name: what to call the output where results are single tensors.
        signature: what clients were told to expect.

    Raises:
        ModelError: the results do not make tensors.
        Fault: an output was asked for that there is not.
    """
    outputs = write_results(results, name=output_name, declared=signature.outputs)
    if call.wanted:
        by_name = {output.name: output for output in outputs}
        absent = [name for name in call.wanted if name not in by_name]
        if absent:
            raise bad_request(f"the output {absent[0][:60]!r} was asked for: this model gave {', '.join(by_name)}")
        outputs = [by_name[name] for name in call.wanted]
    return _encode(_Answer(model_name=model, model_version=VERSION, outputs=outputs, id=call.id))


def write_metadata(model: str, kind: str, signature: Signature) -> bytes:
    """Write what a model takes and gives."""
    return _encode(
        {
            "name": model,
            "versions": [VERSION],
            "platform": f"carpool_{kind}",
            "inputs": _declared(signature.inputs),
            "outputs": _declared(signature.outputs),
        }
    )


def _declared(shape: Shape | None) -> list[dict[str, object]]:
    fields = shape.fields if shape else ()
    return [{"name": f.name, "datatype": f.datatype, "shape": f.declared_shape} for f in fields]


def write_error(fault: Fault) -> bytes:
    """Write why a request was not answered."""
    return _encode({"error": str(fault)})
