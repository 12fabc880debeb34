"""The Open Inference Protocol, version 2, over REST: requests into items, results into answers.

Tensors come and go as JSON or, by the binary tensor data extension, as bytes behind the JSON. Everything here is a pure
function of bytes and values.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md), and the extensions
of NVIDIA Triton for binary data, scheduling policy and classification (docs/protocol)
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from carpool.serve.datatypes import NUMPY
from carpool.serve.faults import Fault, bad_request
from carpool.serve.json_tensors import JsonTensor, read_json, write_json
from carpool.serve.oip_parameters import Parameters
from carpool.serve.raw_tensors import read_raw, write_raw
from carpool.serve.tensors import Tensor, classified, to_items, to_tensors
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.serve.datatypes import Array
    from carpool.serve.signature import Shape, Signature

_MAX_HEADER_DIGITS = 18
_MOST_SAID = 300


class InputParameters(msgspec.Struct):
    """How one input comes.

    Args:
        binary_data_size: bytes of it behind the JSON; left out where its values are in `data`.
        shared_memory_region: refused: nothing is read from shared memory.
    """

    binary_data_size: int | None = None
    shared_memory_region: str | None = None


class RequestInput(msgspec.Struct):
    """One input; `data` is flat in row-major order, or nested as `shape` says."""

    name: str
    shape: list[int]
    datatype: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(NUMPY)})]
    parameters: InputParameters = msgspec.field(default_factory=InputParameters)
    data: Any = msgspec.UNSET


class OutputParameters(msgspec.Struct, frozen=True):
    """How one output is to be sent.

    Args:
        binary_data: whether as bytes; left out to do as `binary_data_output` of the request says.
        classification: so many of the largest values of each row, as `value:index`; 0 for the values themselves.
        shared_memory_region: refused: nothing is written to shared memory.
    """

    binary_data: bool | None = None
    classification: int = 0
    shared_memory_region: str | None = None


class RequestOutput(msgspec.Struct, frozen=True):
    """One output that is asked for."""

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(msgspec.Struct):
    """A request: tensors whose first size is the batch."""

    inputs: list[RequestInput]
    id: str = ""
    parameters: Parameters = Parameters()
    outputs: list[RequestOutput] = []


class InferResponse(msgspec.Struct, omit_defaults=True):
    """An answer."""

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
        binary: whether outputs that do not say otherwise are sent as bytes.
    """

    items: list[Any]
    id: str
    priority: int
    timeout_s: float | None
    wanted: tuple[RequestOutput, ...]
    binary: bool


@dataclass(frozen=True, slots=True)
class Written:
    """A document to send.

    Args:
        body: the JSON, and behind it the bytes of tensors.
        json_bytes: how much of the body is JSON; None where all of it is.
    """

    body: bytes
    json_bytes: int | None = None


_decode = msgspec.json.Decoder(InferRequest).decode
_encode = msgspec.json.Encoder().encode


def decode_json(decode: Any, body: bytes | memoryview) -> Any:
    """Decode JSON from a client.

    Raises:
        Fault: it is not JSON, nested too deep, or not what the decoder expects.
    """
    try:
        return decode(body)
    except RecursionError:
        raise bad_request("the body is nested too deep to be read: flatten its lists") from None
    except msgspec.ValidationError as error:
        said = str(error)[:_MOST_SAID]  # it may name a field of any length
        raise bad_request(f"the body is JSON, but not this request: {said}") from None
    except ValueError as error:  # malformed, truncated, or not UTF-8
        size = f"{len(body):,} bytes"
        raise bad_request(f"the body of {size} is not JSON ({error}): send one whole JSON object") from None


# --------------------------------------------------------------------------------------------------------- requests


def parse_request(body: bytes, signature: Signature, *, max_rows: int, json_bytes: str = "") -> Call:
    """Read an inference request.

    Args:
        body: as it came.
        signature: what the model takes.
        max_rows: the most rows that one request may have.
        json_bytes: the header `Inference-Header-Content-Length`; empty where all of the body is JSON.

    Raises:
        Fault: it is not a request that this model can answer; the message says why.
    """
    head, tail = _split(body, json_bytes)
    request: InferRequest = decode_json(_decode, head)
    parameters = request.parameters
    parameters.check_alone()
    return Call(
        items=to_items(_tensors(request.inputs, tail), signature.inputs, max_rows=max_rows),
        id=request.id,
        priority=parameters.item_priority,
        timeout_s=parameters.timeout_s,
        wanted=check_wanted(request.outputs, signature.outputs),
        binary=parameters.binary_data_output,
    )


def _split(body: bytes, json_bytes: str) -> tuple[bytes | memoryview, memoryview | None]:
    """Take the JSON and the bytes behind it apart; None where no bytes were announced."""
    if not json_bytes:
        return body, None
    is_number = json_bytes.isascii() and json_bytes.isdigit() and len(json_bytes) <= _MAX_HEADER_DIGITS
    if not is_number or int(json_bytes) > len(body):
        header = f"the header Inference-Header-Content-Length is {json_bytes[:40]!r}"
        raise bad_request(f"{header}, and the body has {len(body):,} bytes: give how many of them are JSON")
    whole, size = memoryview(body), int(json_bytes)
    return whole[:size], whole[size:]


def _tensors(inputs: list[RequestInput], tail: memoryview | None) -> list[Tensor]:
    tensors, at = [], 0
    for given in inputs:
        size = given.parameters.binary_data_size
        if given.parameters.shared_memory_region is not None:
            raise no_shared_memory(f"the input {given.name[:60]!r}")
        tensors.append(Tensor(given.name, given.datatype, _array(given, tail, at)))
        at += size or 0
    if tail is not None and at != len(tail):
        left = counted(len(tail) - at, "byte")
        raise bad_request(f"the body has {left} behind its JSON that are no input's: make binary_data_size agree")
    return tensors


def _array(given: RequestInput, tail: memoryview | None, at: int) -> Array:
    """Read one input, whose bytes, if it has any, start at `at` behind the JSON."""
    size = given.parameters.binary_data_size
    if size is None:
        data = None if given.data is msgspec.UNSET else given.data
        return read_json(given.datatype, given.shape, data, name=given.name)
    if tail is None:
        remedy = "say by the header Inference-Header-Content-Length how much of the body is JSON"
        raise bad_request(f"the input {given.name[:60]!r} has binary_data_size, and the body no bytes: {remedy}")
    if given.data is not msgspec.UNSET:
        raise bad_request(f"the input {given.name[:60]!r} has both binary_data_size and data: leave one out")
    if not 0 <= size <= len(tail) - at:
        left = counted(len(tail) - at, "byte")
        shown = size if abs(size) <= sys.maxsize else "beyond all measure"
        raise bad_request(f"the input {given.name[:60]!r} has binary_data_size {shown}, and {left} are left for it")
    return read_raw(given.datatype, given.shape, tail[at : at + size], name=given.name)


def no_shared_memory(what: str) -> Fault:
    """Return the fault of a request that would have tensors go through shared memory."""
    return bad_request(
        f"{what} is to go through shared memory, which this server never opens: let its bytes travel with the message"
    )


def check_wanted(outputs: Sequence[RequestOutput], declared: Shape | None) -> tuple[RequestOutput, ...]:
    """Return the outputs that are asked for, once they are such as can be given.

    Args:
        outputs: as they are asked for.
        declared: what results are made of; None where the model has not said.

    Raises:
        Fault: there is no such output, or it is asked for twice or in a way that there is not.
    """
    known = {field.name for field in declared.fields} if declared else set()
    names = [output.name for output in outputs]
    for output in outputs:
        if known and output.name not in known:
            given = ", ".join(sorted(known))
            raise bad_request(f"the output {output.name[:60]!r} was asked for: this model gives {given}")
        if names.count(output.name) > 1:
            raise bad_request(f"the output {output.name[:60]!r} was asked for twice: once is enough")
        if output.parameters.shared_memory_region is not None:
            raise no_shared_memory(f"the output {output.name[:60]!r}")
        if output.parameters.classification < 0:
            raise bad_request(f"classification of {output.name[:60]!r} is below 0: give how many classes to tell")
    return tuple(outputs)


# ---------------------------------------------------------------------------------------------------------- answers


def write_answer(
    call: Call, results: Sequence[Any], *, model: str, version: str, output_name: str, signature: Signature
) -> Written:
    """Write the answer to a request.

    Args:
        call: the request.
        results: one a row, in order.
        model: its name.
        version: of the model.
        output_name: what to call the output where results are single tensors.
        signature: what clients were told to expect.

    Raises:
        ModelError: the results do not make tensors.
        Fault: an output was asked for that there is not.
    """
    tensors = to_tensors(results, name=output_name, declared=signature.outputs)
    chosen = choose(tensors, call.wanted)
    outputs, parts = [], [b""]
    for tensor, parameters in chosen:
        if _first(parameters.binary_data, call.binary):
            parts.append(write_raw(tensor.array, tensor.datatype))
            outputs.append(_announced(tensor, len(parts[-1])))
        else:
            shape = list(tensor.array.shape)
            outputs.append(JsonTensor(tensor.name, shape, tensor.datatype, data=write_json(tensor)))
    answer = InferResponse(model_name=model, model_version=version, outputs=outputs, id=call.id)
    parts[0] = _encode(answer)
    return Written(b"".join(parts), len(parts[0])) if len(parts) > 1 else Written(parts[0])


def choose(tensors: Sequence[Tensor], wanted: Sequence[RequestOutput]) -> list[tuple[Tensor, OutputParameters]]:
    """Pick the outputs that were asked for, in their order, and classify those of which classes were asked for.

    Args:
        tensors: all outputs.
        wanted: what was asked for; empty for all.

    Raises:
        Fault: an output was asked for that there is not, or that can't be classified.
    """
    if not wanted:
        return [(tensor, OutputParameters()) for tensor in tensors]
    by_name = {tensor.name: tensor for tensor in tensors}
    absent = next((output.name for output in wanted if output.name not in by_name), None)
    if absent is not None:
        raise bad_request(f"the output {absent[:60]!r} was asked for: this model gave {', '.join(by_name)}")
    chosen = []
    for output in wanted:
        tensor, num_classes = by_name[output.name], output.parameters.classification
        chosen.append((classified(tensor, num_classes) if num_classes else tensor, output.parameters))
    return chosen


def _first(given: bool | None, default: bool) -> bool:  # noqa: FBT001 - two truth values, one instead of the other
    return default if given is None else given


def _announced(tensor: Tensor, size_bytes: int) -> JsonTensor:
    shape = list(tensor.array.shape)
    return JsonTensor(tensor.name, shape, tensor.datatype, parameters={"binary_data_size": size_bytes})


def write_error(fault: Fault) -> bytes:
    """Write why a request was not answered."""
    return _encode({"error": str(fault)})
