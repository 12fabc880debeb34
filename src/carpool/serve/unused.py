"""Settings that would do nothing for what they are told of: refused, lest somebody waits for their effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from carpool.config.settings import COMMAND_LINE, DEFAULT
from carpool.errors import ConfigError, TargetError
from carpool.models.generator import is_generator
from carpool.serve.build import find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from carpool.config.settings import ServeSettings, Setting

Kind: TypeAlias = Literal["pipeline", "language model", "model"]
"""What settings are told of; a model is one that answers in batches."""

# What a pipeline has no use for, and what it passes on to the steps that are declared with it alone.
_NOT_OF_A_PIPELINE = ("model.target", "policy.", "cache.", "profile", "llm.")
_OF_OWN_STEPS = ("model.", "objective.", "tenants")
_OF_ANY_PIPELINE = frozenset({"model.name", "model.versions"})
_NOT_OF_A_LANGUAGE_MODEL = (
    "policy.", "cache.", "objective.",
    "model.num_workers", "model.worker", "model.devices", "model.max_worker_memory", "model.warm_up",
)  # fmt: skip
# One option of the command line sets both.
_SHARED_OPTIONS = frozenset({"policy.token_budget", "llm.token_budget", "policy.max_queue", "llm.max_waiting"})
_OPTIONS = {"model.num_workers": "--workers", "llm.prefix_caching": "--no-prefix-caching"}


def kind_of(settings: ServeSettings, places: Sequence[Path] = ()) -> Kind:
    """Tell what settings are told of.

    Args:
        settings: of one model.
        places: where files that the target names are sought; none: in the working directory.
    """
    if settings.steps:
        return "pipeline"
    try:
        target = find_target(settings.model.target, places)
    except TargetError:  # which is told when it is built
        return "model"
    return "language model" if is_generator(target) else "model"


def require_used(settings: ServeSettings, kind: Kind, is_own: Callable[[str], bool]) -> None:
    """Refuse what is told of a model and would do nothing for it.

    Args:
        settings: of one model.
        kind: what it is.
        is_own: tells whether what came from an origin is told of it alone, and not of all models beside it.

    Raises:
        ConfigError: a key is of no use to it.
    """
    unused = _unused(settings, kind)
    for setting in settings.values:
        if setting.key.startswith(unused) and setting.origin != DEFAULT and is_own(setting.origin):
            _refuse(setting, kind)


def _unused(settings: ServeSettings, kind: Kind) -> tuple[str, ...]:
    if kind == "pipeline":
        return _NOT_OF_A_PIPELINE if settings.own_steps else (*_NOT_OF_A_PIPELINE, *_OF_OWN_STEPS)
    return _NOT_OF_A_LANGUAGE_MODEL if kind == "language model" else ("llm.",)


def _refuse(setting: Setting, kind: Kind) -> None:
    is_option = setting.origin == COMMAND_LINE
    if kind == "pipeline" and setting.key in _OF_ANY_PIPELINE:
        return
    if is_option and setting.key in _SHARED_OPTIONS and (kind != "pipeline" or setting.key.startswith("llm.")):
        return
    option = _OPTIONS.get(setting.key, f"--{setting.key.rpartition('.')[2].replace('_', '-')}")
    remedy = _remedy(setting.key) if kind == "pipeline" else _remedies(setting.key, kind)
    raise ConfigError(f"{option if is_option else setting.named} does nothing for a {kind}: {remedy}")


def _remedy(key: str) -> str:
    """Say what to do for a pipeline instead."""
    if key.startswith("policy."):
        return "each step has a policy of its own: put it into [step.NAME.policy], or into the step's own carpool.toml"
    if key == "model.target":
        return "it runs its steps: name each step's target in [step.NAME], or leave [pipeline] out"
    if key.startswith("llm."):
        return "its steps answer in batches; leave it out"
    what = {"cache": "a cache", "objective": "an objective", "tenants": "shares"}.get(key.partition(".")[0], "it")
    return f"give {what} to a step that is a model of its own, with its own carpool.toml, in a model repository"


def _remedies(key: str, kind: Kind) -> str:
    """Say what to do for a model instead."""
    if kind == "model":
        return "it is for language models; leave it out, and see [policy]"
    if key.startswith("policy."):
        return "its steps are formed as [llm] says (num_slots, token_budget, max_waiting); leave it out"
    if key.startswith("objective."):
        return "give it objectives by llm.ttft and llm.tpot"
    if key.startswith("cache."):
        return "what prompts have in common is cached by llm.prefix_caching; leave it out"
    return "leave it out"
