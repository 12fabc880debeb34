"""What the Open Inference Protocol says of the server and of its models: the same over REST and over gRPC.

The documents have the names and the meaning of the protocol's messages.

Source: https://github.com/kserve/open-inference-protocol, and the extensions of NVIDIA Triton for model configuration,
the model repository and statistics (docs/protocol)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

import carpool
from carpool.serve.datatypes import BYTES
from carpool.serve.oip_parameters import NUM_LEVELS, USUAL_LEVEL
from carpool.serve.statistics import ModelStatistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.serve.served import Served
    from carpool.serve.shelf import ModelState
    from carpool.serve.signature import Field, Shape

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "schedule_policy",
    "statistics",
)
_US = 1_000_000


class ServerMetadata(msgspec.Struct, frozen=True):
    """What the server is, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(msgspec.Struct, frozen=True):
    """Whether the server answers."""

    live: bool


class ServerReady(msgspec.Struct, frozen=True):
    """Whether every model that should be on offer answers."""

    ready: bool


class ModelReady(msgspec.Struct, frozen=True):
    """Whether a model answers."""

    name: str
    ready: bool


class TensorMetadata(msgspec.Struct, frozen=True):
    """A tensor that a model takes or gives; the first size is the batch, and -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class StatisticsDocument(msgspec.Struct, frozen=True):
    """What models have done."""

    model_stats: list[ModelStatistics]


class RepositoryModel(msgspec.Struct, frozen=True):
    """The state of one version of one model: READY, LOADING, UNLOADING or UNAVAILABLE, and why."""

    name: str
    version: str
    state: str
    reason: str


def server_metadata() -> ServerMetadata:
    """Say what the server is."""
    return ServerMetadata("carpool", carpool.__version__, list(EXTENSIONS))


def model_metadata(served: Served, versions: Sequence[str]) -> ModelMetadata:
    """Say what a model takes and gives.

    Args:
        served: the model.
        versions: all those on offer.
    """
    return ModelMetadata(
        name=served.name,
        versions=list(versions),
        platform=f"carpool_{served.model.info.kind}",
        inputs=_tensors(served.signature.inputs),
        outputs=_tensors(served.signature.outputs),
    )


def _tensors(shape: Shape | None) -> list[TensorMetadata]:
    fields = shape.fields if shape else ()
    return [TensorMetadata(field.name, field.datatype, list(field.declared_shape)) for field in fields]


def model_config(served: Served) -> dict[str, Any]:
    """Say how a model is run, as Triton's clients read it.

    Args:
        served: the model.
    """
    policy, info, signature = served.batcher.policy, served.model.info, served.signature
    on_gpu = info.device.startswith("cuda")
    return {
        "name": served.name,
        "platform": f"carpool_{info.kind}",
        "backend": "carpool",
        "version_policy": {"all": {}},
        "max_batch_size": policy.max_batch_size,
        "input": [_declared(field) for field in (signature.inputs.fields if signature.inputs else ())],
        "output": [_declared(field) for field in (signature.outputs.fields if signature.outputs else ())],
        "instance_group": [
            {"name": served.name, "kind": "KIND_GPU" if on_gpu else "KIND_CPU", "count": served.num_workers}
        ],
        "dynamic_batching": {
            "max_queue_delay_microseconds": round(policy.max_wait_s * _US),
            "preserve_ordering": False,
            "priority_levels": NUM_LEVELS,
            "default_priority_level": USUAL_LEVEL,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "allow_timeout_override": True,
                "max_queue_size": policy.max_queue,
            },
        },
        "model_transaction_policy": {"decoupled": False},
    }


def _declared(field: Field) -> dict[str, Any]:
    kind = "STRING" if field.datatype == BYTES else field.datatype
    return {"name": field.name, "data_type": f"TYPE_{kind}", "dims": list(field.declared_shape[1:])}


def statistics(models: Sequence[Served]) -> StatisticsDocument:
    """Say what models have done.

    Args:
        models: in the order to say it.
    """
    return StatisticsDocument([served.statistics.freeze(served.name, served.version) for served in models])


def repository_index(states: Sequence[ModelState], *, only_ready: bool) -> list[RepositoryModel]:
    """Say which models there are, and how they are.

    Args:
        states: of every version of every model.
        only_ready: whether to leave out those that do not answer.
    """
    return [
        RepositoryModel(state.name, state.version, state.state, state.reason)
        for state in states
        if state.is_ready or not only_ready
    ]
