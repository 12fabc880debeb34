"""Carpool: measure what batching buys on a model and a machine, run it, and see whether it helps.

The public names below are loaded when first used, so that ``import carpool`` costs next to nothing:

>>> import carpool
>>> carpool.Policy(max_batch_size=64).max_batch_size
64
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.core.policy import Policy
    from carpool.errors import (
        BatcherClosed,
        CarpoolError,
        ConfigError,
        ConnectionFailed,
        DeadlineExceeded,
        DispatcherDied,
        InvalidItem,
        ModelError,
        ModelHung,
        OutOfMemory,
        OutOfRange,
        QueueFull,
        Rejected,
        SchemaError,
        TargetError,
        WorkerDied,
        WrongResultCount,
    )
    from carpool.llm.constraint import Constraint
    from carpool.llm.llm import LLM
    from carpool.llm.sampling_params import SamplingParams
    from carpool.runtime.batcher import Batcher
    from carpool.runtime.decorator import batched

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "Batcher",
    "BatcherClosed",
    "CarpoolError",
    "ConfigError",
    "ConnectionFailed",
    "Constraint",
    "DeadlineExceeded",
    "DispatcherDied",
    "InvalidItem",
    "ModelError",
    "ModelHung",
    "OutOfMemory",
    "OutOfRange",
    "Policy",
    "QueueFull",
    "Rejected",
    "SamplingParams",
    "SchemaError",
    "TargetError",
    "WorkerDied",
    "WrongResultCount",
    "__version__",
    "batched",
]

_HOMES = {
    "Batcher": "carpool.runtime.batcher",
    "Constraint": "carpool.llm.constraint",
    "LLM": "carpool.llm.llm",
    "Policy": "carpool.core.policy",
    "SamplingParams": "carpool.llm.sampling_params",
    "batched": "carpool.runtime.decorator",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it.

    Raises:
        AttributeError: If ``name`` is not one of the names in ``__all__``.
    """
    if name not in __all__:
        message = f"module 'carpool' has no attribute {name!r}; it offers {', '.join(__all__)}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(_HOMES.get(name, "carpool.errors")), name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    """List the public names beside those that every module has."""
    return sorted({*globals(), *__all__})
