"""Which model each worker runs: one that all share, or one of its own."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from carpool.core.policy import MOST_WORKERS
from carpool.errors import ConfigError
from carpool.models.model import Model, Recipe
from carpool.models.target import remake
from carpool.models.threads import num_cores
from carpool.runtime.process.remote import RemoteModel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WorkerKind: TypeAlias = Literal["thread", "process"]


def count_workers(num_workers: object, devices: Sequence[str] | None, model: Model, kind: str) -> int:
    """Return how many workers there are.

    Args:
        num_workers: what was asked for; None leaves it to the devices or the model.
        devices: one for each worker; None where they are not told apart.
        model: the one that was given.
        kind: "thread" or "process".

    Raises:
        ConfigError: it is no whole number from 1 to 1024, or the two contradict each other.
    """
    if num_workers is None:
        num_workers = model.preferred_workers if kind == "thread" and devices is None else 1
    if type(num_workers) is not int or num_workers < 1:
        raise ConfigError(f"num_workers is {num_workers!r}; it must be at least 1, a whole number")
    if num_workers > MOST_WORKERS:
        raise ConfigError(
            f"num_workers is {num_workers}; it must be at most {MOST_WORKERS}: run more servers for more workers"
        )
    if devices is None:
        return num_workers
    if isinstance(devices, str) or not devices:
        raise ConfigError(f'devices is {devices!r}; it must be a list with at least one, such as ["cuda:0", "cuda:1"]')
    if num_workers not in (1, len(devices)):
        raise ConfigError(f"num_workers is {num_workers}, and devices names {len(devices)}: leave num_workers out")
    return len(devices)


def check_limits(kind: str, batch_timeout_s: float | None, max_memory_bytes: int | None) -> None:
    """Refuse limits that can't be.

    Raises:
        ConfigError: a limit is not above 0, or the memory of threads is limited, which they share with all else.
    """
    if batch_timeout_s is not None and not batch_timeout_s > 0:
        raise ConfigError(f"batch_timeout_s is {batch_timeout_s!r}; it must be above 0")
    if max_memory_bytes is None:
        return
    if not max_memory_bytes > 0:
        raise ConfigError(f"max_worker_memory_bytes is {max_memory_bytes!r}; it must be above 0")
    if kind != "process":
        raise ConfigError('max_worker_memory limits processes: run the model with worker="process", or leave it out')


def models_for(
    model: Model, kind: str, num_workers: int, devices: Sequence[str] | None, on_death: Callable[[], None]
) -> list[Model]:
    """Return the model of each worker.

    Args:
        model: the one that was given.
        kind: "thread" or "process".
        num_workers: how many there are.
        devices: one for each worker; None leaves them to the model.
        on_death: called when the process of a worker has ended.

    Raises:
        ConfigError: the model can't be shared, and no other like it can be made.
    """
    if kind == "process":
        return _remote(model, num_workers, devices, on_death)
    if kind != "thread":
        raise ConfigError(f'worker is {kind!r}; it must be "thread" or "process"')
    models = _local(model, num_workers, devices)
    for one in models:
        one.share_cores(num_workers)
    return models


def _local(model: Model, num_workers: int, devices: Sequence[str] | None) -> list[Model]:
    if devices is not None:
        recipe = _recipe(model, f"devices names {len(devices)}")
        return [remake(recipe, device=device) for device in devices]
    if num_workers == 1 or model.concurrent:
        return [model] * num_workers
    recipe = _recipe(model, f"num_workers is {num_workers}")
    return [model, *(remake(recipe) for _ in range(1, num_workers))]


def _recipe(model: Model, asked: str) -> Recipe:
    if model.recipe is None or not model.recipe.is_independent:
        raise ConfigError(
            f"{asked}, so that each worker needs a model of its own, and {model.info.target} is a single live object: "
            'give its class or a TARGET in its place, or worker="process"; or let it say `concurrent = True`, where '
            "threads may share it"
        )
    return model.recipe


def _remote(model: Model, num_workers: int, devices: Sequence[str] | None, on_death: Callable[[], None]) -> list[Model]:
    recipe = model.recipe or Recipe(source=model, name=model.info.name, target=model.info.target)
    shares_by_itself = type(model).share_cores is not Model.share_cores
    if recipe.num_threads is None and num_workers > 1 and not (shares_by_itself or isinstance(recipe.source, Model)):
        recipe = replace(recipe, num_threads=max(1, num_cores() // num_workers))  # more would take turns
    loading = threading.Lock()
    return [
        RemoteModel(
            model,
            recipe,
            device=devices[number] if devices else None,
            number=number,
            num_workers=num_workers,
            loading=loading,
            on_death=on_death,
        )
        for number in range(num_workers)
    ]
