"""From settings to whatever can be offered: a model behind a batcher, or a language model behind its engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carpool.config.settings import DEFAULT
from carpool.errors import ConfigError, TargetError
from carpool.models.generator import DEMO, is_generator
from carpool.serve.build import build_served, find_target, naming, require_file
from carpool.serve.llm.served import Promises, ServedLM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.config.settings import ServeSettings
    from carpool.core.cost import StepTimeModel
    from carpool.core.step_policy import StepPolicy
    from carpool.llm.options import EngineOptions
    from carpool.serve.served import Served

_STEP_TIMEOUT_S = 60.0


def build_any(
    settings: ServeSettings, *, name: str | None = None, version: str = "1", places: Sequence[Path] = ()
) -> Served | ServedLM:
    """Find a model, and put it behind what runs it; it is not yet started.

    Args:
        settings: what is told of it.
        name: what clients call it; None takes what the settings say, or the model's own.
        version: which one of that name it is.
        places: as for `build_served`.

    Raises:
        ConfigError: the settings can't be kept; the message says where they were given.
        TargetError: the target names no model.
    """
    if settings.model.target is not None or places:
        with naming(settings, "model.target", TargetError):
            target = find_target(settings.model.target, places)
        if is_generator(target):
            return build_generator(settings, target, name=name or settings.model.name, version=version)
    return build_served(settings, name=name, version=version, places=places)


def build_generator(settings: ServeSettings, target: str, *, name: str | None, version: str) -> ServedLM:
    """Put a language model behind an engine that is not yet started.

    Args:
        settings: what is told of it.
        target: `demo:smollm2`, a directory or a `.gguf` file.
        name: what clients call it; None takes the target's own name.
        version: which one of that name it is.

    Raises:
        ConfigError: the settings can't be kept, or what it needs is not installed.
        TargetError: the target names no model.
    """
    try:
        from carpool.llm.open import open_engine
    except ImportError as error:
        raise ConfigError(f"{target} needs {error.name}: run `pip install 'carpool[llm]'`") from None
    options = engine_options(settings, target)
    time_model = measured_time(settings, target)
    with naming(settings, "model.target", TargetError):
        engine = open_engine(options, time_model=time_model)
    llm = settings.llm
    promises = Promises(ttft_s=llm.ttft_s, tpot_s=llm.tpot_s, timeout_s=settings.server.request_timeout_s or None)
    return ServedLM(engine, name=name or own_name(target), version=version, policy=options.policy, promises=promises)


def measured_time(settings: ServeSettings, target: str) -> StepTimeModel | None:
    """Return what the profile that the settings name says of a step's time, by the pace of now; None without one.

    Args:
        settings: what is told of the model.
        target: where it is.

    Raises:
        ConfigError: the profile is not there, is of another model, or says nothing of what a step takes.
    """
    path = settings.profile
    if path is None:
        return None
    from carpool.cost.online import AdaptiveStepCost
    from carpool.profile.llm_artefact import load_llm_profile
    from carpool.profile.validity import require_target

    with naming(settings, "profile"):
        require_file(path, target)
        profile = load_llm_profile(path)
        require_target(profile, target, path=path, directory=Path.cwd())
        if profile.whole_cost is None:
            raise ConfigError(f"{path} does not say what a step takes: profile for longer, or leave it out")
    return AdaptiveStepCost(profile.whole_cost.clipped())


def engine_options(settings: ServeSettings, target: str) -> EngineOptions:
    """Return how a language model is opened.

    Args:
        settings: what is told of it.
        target: where it is.

    Raises:
        ConfigError: two settings do not agree.
    """
    from carpool.llm.options import EngineOptions

    given, llm = settings.model, settings.llm
    return EngineOptions(
        target=target,
        device=given.device,
        dtype=given.dtype or "auto",
        weights=llm.weights,
        num_threads=given.num_threads,
        max_length=llm.max_length,
        kv_memory_bytes=llm.kv_memory_bytes,
        deterministic=llm.deterministic,
        policy=step_policy(settings),
        step_timeout_s=given.batch_timeout_s or _STEP_TIMEOUT_S,
    )


def step_policy(settings: ServeSettings) -> StepPolicy:
    """Return how steps are formed, the tenants' shares included.

    Args:
        settings: what is told of the model.

    Raises:
        ConfigError: two settings do not agree; the message says where they are from.
    """
    from carpool.core.step_policy import StepPolicy

    llm = settings.llm
    try:
        return StepPolicy(
            num_slots=llm.num_slots,
            token_budget=llm.token_budget,
            block_size=llm.block_size,
            prefix_caching=llm.prefix_caching,
            chunked_prefill=llm.chunked_prefill,
            max_waiting=llm.max_waiting,
            tenant_weights=next(one.value for one in settings.values if one.key == "tenants"),
        )
    except ConfigError as error:
        told = [setting for setting in settings.values if setting.key.startswith(("llm.", "tenants"))]
        origins = sorted({setting.origin for setting in told if setting.origin != DEFAULT})
        raise ConfigError(f"[llm] from {', '.join(origins)}: {error}") from None


def own_name(target: str) -> str:
    """Return what a language model is called by itself.

    >>> own_name("demo:smollm2"), own_name("models/tiny.gguf"), own_name("models/Qwen3-0.6B/")
    ('smollm2', 'tiny', 'Qwen3-0.6B')
    """
    if target == DEMO:
        return target.partition(":")[2]
    path = Path(target).absolute()
    return path.stem if path.suffix == ".gguf" else path.name
