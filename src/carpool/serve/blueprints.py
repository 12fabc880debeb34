"""Blueprints from settings: of a model, of a pipeline, and of the steps that are declared with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carpool.config.settings import COMMAND_LINE, DEFAULT, ServeSettings
from carpool.errors import ConfigError
from carpool.serve.build import build_served, build_step
from carpool.serve.source import Blueprint, Named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.config.settings import StepSettings
    from carpool.serve.served import Served

_NOT_READ = frozenset({"__pycache__", "carpool.toml"})
# What a model is made from, of all that settings tell.
# What a pipeline has no use for, and what it passes on to the steps that are declared with it alone.
_NOT_OF_A_PIPELINE = ("model.target", "policy.", "cache.", "profile")
_OF_OWN_STEPS = ("model.", "objective.", "tenants")
_OF_ANY_PIPELINE = frozenset({"model.name", "model.versions"})
_MADE_FROM = ("model.", "profile", "pipeline.", "step", "cache.", "server.request_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is told of one version of a model.

    Args:
        name: what clients call the model.
        version: a whole number, as text.
        settings: what is told.
        places: where files that targets name are sought; none: in the working directory.
        files: files and directories that it is made from.
    """

    name: str
    version: str
    settings: ServeSettings
    places: tuple[Path, ...]
    files: tuple[Path, ...]

    def names(self) -> Iterator[str]:
        """Name the model, and the steps that are declared with it."""
        yield self.name
        for step in self.settings.own_steps:
            yield self.step_name(step)

    def step_name(self, step: str) -> str:
        """Return what clients call a step: `pipeline.step` where it is declared with it, else the model's own name."""
        return f"{self.name}.{step}" if step in self.settings.own_steps else step


def require_of_pipeline(settings: ServeSettings, is_own: Callable[[str], bool]) -> None:
    """Refuse what is told of a pipeline and would do nothing.

    Args:
        settings: of a model or a pipeline.
        is_own: tells whether what came from an origin is told of it alone, and not of all models beside it.

    Raises:
        ConfigError: a key is of no use to it.
    """
    unused = _NOT_OF_A_PIPELINE if settings.own_steps else (*_NOT_OF_A_PIPELINE, *_OF_OWN_STEPS)
    for setting in settings.values if settings.steps else ():
        stray = setting.key.startswith(unused) and setting.key not in _OF_ANY_PIPELINE
        if stray and setting.origin != DEFAULT and is_own(setting.origin):
            option = f"--{setting.key.rpartition('.')[2].replace('_', '-')}"
            named = option if setting.origin == COMMAND_LINE else setting.named
            raise ConfigError(f"{named} does nothing for a pipeline: {_remedy(setting.key)}")


def _remedy(key: str) -> str:
    if key.startswith("policy."):
        return "each step has a policy of its own: put it into [step.NAME.policy], or into the step's own carpool.toml"
    if key == "model.target":
        return "it runs its steps: name each step's target in [step.NAME], or leave [pipeline] out"
    what = {"cache": "a cache", "objective": "an objective", "tenants": "shares"}.get(key.partition(".")[0], "it")
    return f"give {what} to a step that is a model of its own, with its own carpool.toml, in a model repository"


def blueprint_of(told: Told) -> Blueprint:
    """Return the blueprint of a model or a pipeline."""
    settings = told.settings
    steps = tuple(told.step_name(step) for step in settings.steps)

    def build(others: Named) -> Served:
        if not steps:
            return build_served(settings, name=told.name, version=told.version, places=told.places)
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
    values = tuple((one.key, repr(one.value)) for one in told.settings.values if one.key.startswith(_MADE_FROM))
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
