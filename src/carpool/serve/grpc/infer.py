"""Inference over gRPC: requests into items, results into answers.

Everything here is a pure function of messages and values.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_grpc.md)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.serve.faults import bad_request
from carpool.serve.grpc.contents import has_field, read_contents, write_contents
from carpool.serve.grpc.messages import InferParameter, ModelInferRequest, ModelInferResponse
from carpool.serve.oip import OutputParameters, RequestOutput, check_wanted, choose, no_shared_memory
from carpool.serve.oip_parameters import Parameters, read_parameters
from carpool.serve.raw_tensors import read_raw, write_raw
from carpool.serve.tensors import Tensor, to_items, to_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carpool.serve.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class InferCall:
    """What a request asks for.

    Args:
        items: one a row, as the model takes them.
        id: the client's own name for the request.
        parameters: those that mean something here.
        wanted: the outputs to answer with; empty for all.
        typed: whether the request came in typed contents, so that the answer goes in them too.
    """

    items: list[Any]
    id: str
    parameters: Parameters
    wanted: tuple[RequestOutput, ...]
    typed: bool


def read_request(request: ModelInferRequest, signature: Signature, *, max_rows: int) -> InferCall:
    """Read an inference request.

    Args:
        request: as it came.
        signature: what the model takes and gives.
        max_rows: the most rows that one request may have.

    Raises:
        Fault: it is not a request that this model can answer; the message says why.
    """
    parameters = read_parameters(_plain(request.parameters))
    parameters.check_alone()
    typed = not request.raw_input_contents and any(tensor.HasField("contents") for tensor in request.inputs)
    return InferCall(
        items=to_items(_tensors(request, typed=typed), signature.inputs, max_rows=max_rows),
        id=request.id,
        parameters=parameters,
        wanted=check_wanted([_wanted(output) for output in request.outputs], signature.outputs),
        typed=typed,
    )


def _plain(parameters: Mapping[str, InferParameter]) -> dict[str, Any]:
    chosen = {name: (parameter, parameter.WhichOneof("parameter_choice")) for name, parameter in parameters.items()}
    return {name: getattr(parameter, kind) for name, (parameter, kind) in chosen.items() if kind is not None}


def _tensors(request: ModelInferRequest, *, typed: bool) -> list[Tensor]:
    raw = request.raw_input_contents
    for tensor in request.inputs:
        if "shared_memory_region" in tensor.parameters:
            raise no_shared_memory(f"the input {tensor.name[:60]!r}")
        if raw and tensor.HasField("contents"):
            both = "contents of its own beside raw_input_contents"
            raise bad_request(f"the input {tensor.name[:60]!r} has {both}: send every input the one way or the other")
    if typed or not request.inputs:
        return [_typed(tensor) for tensor in request.inputs]
    if len(raw) != len(request.inputs):
        raise bad_request(
            f"the request has {len(request.inputs)} inputs and {len(raw)} raw_input_contents: give one for each"
        )
    return [
        Tensor(tensor.name, tensor.datatype, read_raw(tensor.datatype, list(tensor.shape), content, name=tensor.name))
        for tensor, content in zip(request.inputs, raw, strict=True)
    ]


def _typed(tensor: ModelInferRequest.InferInputTensor) -> Tensor:
    array = read_contents(tensor.datatype, list(tensor.shape), tensor.contents, name=tensor.name)
    return Tensor(tensor.name, tensor.datatype, array)


def _wanted(output: ModelInferRequest.InferRequestedOutputTensor) -> RequestOutput:
    try:
        parameters = msgspec.convert(_plain(output.parameters), OutputParameters)
    except msgspec.ValidationError as error:
        raise bad_request(f"the parameters of the output {output.name[:60]!r} are not what it takes: {error}") from None
    return RequestOutput(output.name, parameters)


def write_answer(
    call: InferCall, results: Sequence[Any], *, model: str, version: str, output_name: str, signature: Signature
) -> ModelInferResponse:
    """Write the answer to a request.

    Args:
        call: the request.
        results: one a row, in order.
        model: its name.
        version: its version.
        output_name: what to call the output where results are single tensors.
        signature: what clients were told to expect.

    Raises:
        ModelError: the results do not make tensors.
        Fault: an output was asked for that there is not.
    """
    found = to_tensors(results, name=output_name, declared=signature.outputs)
    tensors = [tensor for tensor, _ in choose(found, call.wanted)]
    response = ModelInferResponse(model_name=model, model_version=version, id=call.id)
    typed = call.typed and all(has_field(tensor.datatype) for tensor in tensors)
    for tensor in tensors:
        output = response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
        if typed:
            output.contents.CopyFrom(write_contents(tensor.array, tensor.datatype))
        else:
            response.raw_output_contents.append(write_raw(tensor.array, tensor.datatype))
    return response
