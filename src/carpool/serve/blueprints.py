"""Blueprints from settings: of a model, of a pipeline, and of the steps that are declared with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carpool.config.settings import ServeSettings
from carpool.serve.build import build_step
from carpool.serve.build_any import build_any
from carpool.serve.source import Blueprint, Named

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.config.settings import StepSettings
    from carpool.serve.on_offer import OnOffer
    from carpool.serve.served import Served

_NOT_READ = frozenset({"__pycache__", "carpool.toml"})
# What a model is made from, of all that settings tell.
_MADE_FROM = ("model.", "profile", "pipeline.", "step", "cache.", "llm.", "server.request_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is told of one version of a model.

    Args:
        name: what clients call the model.
        version: a whole number, as text.
        settings: what is told.
        places: where files that targets name are sought; none: in the working directory.
        files: files and directories that it is made from.
        generates: whether it is a language model.
    """

    name: str
    version: str
    settings: ServeSettings
    places: tuple[Path, ...]
    files: tuple[Path, ...]
    generates: bool = False

    def names(self) -> Iterator[str]:
        """Name the model, and the steps that are declared with it."""
        yield self.name
        for step in self.settings.own_steps:
            yield self.step_name(step)

    def step_name(self, step: str) -> str:
        """Return what clients call a step: `pipeline.step` where it is declared with it, else the model's own name."""
        return f"{self.name}.{step}" if step in self.settings.own_steps else step


def blueprint_of(told: Told) -> Blueprint:
    """Return the blueprint of a model or a pipeline."""
    settings = told.settings
    steps = tuple(told.step_name(step) for step in settings.steps)

    def build(others: Named) -> OnOffer:
        if not steps:
            return build_any(settings, name=told.name, version=told.version, places=told.places)
        from carpool.serve.pipeline import Pipeline

        versions = tuple(told.version if step in settings.own_steps else "" for step in settings.steps)
        return Pipeline(
            others,
            name=told.name,
            version=told.version,
            steps=tuple(zip(steps, versions, strict=True)),
            request_timeout_s=settings.server.request_timeout_s,
        )

    return Blueprint(
        told.name,
        told.version,
        build,
        policy=settings.policy,
        objectives_s=settings.objectives_s,
        files=state_of(told),
        settings=settings,
        steps=steps,
    )


def steps_of(told: Told) -> list[Blueprint]:
    """Return the blueprints of the steps that are declared with a pipeline."""
    state = state_of(told)
    return [_step(told, told.step_name(name), step, state) for name, step in told.settings.own_steps.items()]


def _step(told: Told, name: str, step: StepSettings, state: object) -> Blueprint:
    def build(_others: Named) -> Served:
        timeout_s = told.settings.server.request_timeout_s
        return build_step(step, name=name, version=told.version, places=told.places, request_timeout_s=timeout_s)

    return Blueprint(
        name, told.version, build, policy=step.policy, objectives_s=told.settings.objectives_s, files=state
    )


def state_of(told: Told) -> object:
    """Return what tells one state of a model's files and settings from another; its policy changes while it runs."""
    made_from = (*_MADE_FROM, "tenants") if told.generates else _MADE_FROM  # shares are changed while batches run
    values = tuple((one.key, repr(one.value)) for one in told.settings.values if one.key.startswith(made_from))
    return values, tuple(sorted(found for path in told.files for found in _stamps(path, told)))


def _stamps(path: Path, told: Told) -> Iterator[tuple[str, int, int]]:
    """Yield each file with its size and the instant of its last change; other versions' files are not its own."""
    if path.is_file():
        status = path.stat()
        yield str(path), status.st_size, status.st_mtime_ns
        return
    if not path.is_dir():
        return
    for entry in path.iterdir():
        if entry.name.startswith(".") or entry.name in _NOT_READ:
            continue
        if entry.is_dir() and entry.name.isdigit() and entry not in told.places:
            continue
        yield from _stamps(entry, told)
