"""From settings to a model that can be offered: its target found, its profile read, put behind a batcher."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.config.settings import COMMAND_LINE
from carpool.errors import ConfigError, TargetError
from carpool.models.target import load_target
from carpool.serve.cache import SharingPolicy
from carpool.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.config.settings import ModelSettings, ServeSettings, StepSettings
    from carpool.profile.artefact import Profile

_FOUND_ALONE = ("model.onnx", "model.gguf", "config.json", "modules.json")


def build_served(
    settings: ServeSettings, *, name: str | None = None, version: str = "1", places: Sequence[Path] = ()
) -> Served:
    """Find a model, and put it behind a batcher that is not yet started.

    Args:
        settings: what is told of it.
        name: what clients call it; None takes what the settings say, or the model's own.
        version: which one of that name it is.
        places: where files that the target names are sought, the first before the others; none: in the working
            directory.

    Raises:
        ConfigError: the settings can't be kept; the message says where they were given.
        TargetError: the target names no model.
    """
    target = settings.model.target
    if target is None and not places:
        raise ConfigError("no [model] target is given: name what to serve, as in carpool serve demo:minilm")
    profile = read_profile(settings)
    with naming(settings, "model.target", TargetError):
        found = find_target(target, places)
        given = settings.model
        model = load_target(found, device=given.device, dtype=given.dtype, num_threads=given.num_threads)
    if profile is not None and settings.profile is not None:
        from carpool.profile.validity import require_target

        with naming(settings, "profile"):
            require_target(profile, model.info.target, path=settings.profile, directory=Path.cwd())
    return Served(
        model,
        name=name or settings.model.name,
        version=version,
        policy=settings.policy,
        cost_model=profile.cost_model.clipped() if profile and profile.cost_model else None,
        **worker_options(settings.model, profile),
        request_timeout_s=settings.server.request_timeout_s,
        warm_up_s=settings.model.warm_up_s,
        sharing=SharingPolicy(
            size_bytes=settings.cache.size_bytes,
            ttl_s=settings.cache.ttl_s,
            deduplicate=settings.cache.deduplicate,
        ),
    )


def build_step(
    step: StepSettings, *, name: str, version: str, places: Sequence[Path], request_timeout_s: float
) -> Served:
    """Find the model of a step of a pipeline, and put it behind a batcher of its own.

    Args:
        step: what is told of it.
        name: what clients call it.
        version: that of the pipeline.
        places: as for `build_served`.
        request_timeout_s: as `server.request_timeout`.

    Raises:
        TargetError: the target names no model.
    """
    given: ModelSettings = step.model
    found = find_target(given.target, places)
    return Served(
        load_target(found, device=given.device, dtype=given.dtype, num_threads=given.num_threads),
        name=name,
        version=version,
        policy=step.policy,
        **worker_options(given),
        request_timeout_s=request_timeout_s,
        warm_up_s=given.warm_up_s,
    )


def worker_options(given: ModelSettings, profile: Profile | None = None) -> dict[str, Any]:
    """Return what settings say of workers, as `Served` takes it.

    Args:
        given: the settings.
        profile: what was measured, which was one worker: another number is for who asks for it.

    Raises:
        ConfigError: they name one device, and several as well.
    """
    if given.devices and given.device is not None:
        raise ConfigError(
            f"model.device is {given.device!r} and model.devices {', '.join(given.devices)}: leave one of them out"
        )
    return {
        "num_workers": 1 if given.num_workers is None and profile is not None else given.num_workers,
        "worker": given.worker,
        "devices": given.devices or None,
        "batch_timeout_s": given.batch_timeout_s,
        "max_worker_memory_bytes": given.max_worker_memory_bytes,
    }


def read_profile(settings: ServeSettings) -> Profile | None:
    """Read the profile that the settings name; None where they name none.

    Raises:
        ConfigError: it is not there, or holds no cost model.
    """
    path = settings.profile
    if path is None:
        return None
    from carpool.profile.artefact import load_profile

    with naming(settings, "profile"):
        require_file(path, settings.model.target)
        profile = load_profile(path)
        if profile.cost_model is None:
            raise ConfigError(f"{path} holds no cost model: profile at least two batch sizes, or leave it out")
    return profile


def require_file(path: Path, target: str | None) -> None:
    """Refuse the path of a profile that is not there.

    Args:
        path: where it should be.
        target: what it should be of, for the message.

    Raises:
        ConfigError: it is not there; the message says how to measure one.
    """
    if not path.exists():
        out = path.parent if path.name == "profile.json" else "DIR"
        remedy = f"measure one by `carpool profile {target} --out {out}`, name another"
        raise ConfigError(f"there is no file {path.absolute()}: {remedy}, or leave it out")


@contextlib.contextmanager
def naming(settings: ServeSettings, key: str, kind: type[ConfigError] = ConfigError) -> Iterator[None]:
    """Let errors of a kind say where the setting that they are about was given: by an option, a variable or a file."""
    setting = settings.setting(key)
    try:
        yield
    except kind as error:
        if setting.origin == COMMAND_LINE and key == "model.target":  # it is no option, and the message names it
            raise
        named = f"--{key}" if setting.origin == COMMAND_LINE else setting.named
        raise type(error)(f"{named}: {error}") from error


def find_target(target: str | None, places: Sequence[Path]) -> str:
    """Return a target with the file that it names, if it names one, sought in some places.

    Args:
        target: as written; None where nothing is, so that the places must hold just one model.
        places: directories, the first before the others; none leaves the target as it is.

    Raises:
        TargetError: it names a file that is in none of them.
    """
    if target is None:
        return _found_alone(places)
    head, colon, name = target.rpartition(":")
    file = Path(head if colon and head.endswith(".py") else target)
    if not places or file.is_absolute() or target.startswith("demo:"):
        return target
    for place in places:
        if (place / file).exists():
            return f"{place / file}{colon}{name}" if colon and head.endswith(".py") else str(place / file)
    if file.suffix in {".py", ".onnx", ".gguf"} or file.name != str(file):
        sought = f"{'neither' if len(places) > 1 else 'not'} in {' nor in '.join(map(str, places))}"
        raise TargetError(f"{target!r} names a file that is not there: it is {sought}")
    return target


def _found_alone(places: Sequence[Path]) -> str:
    for place in places:
        for file in _FOUND_ALONE:
            if (place / file).is_file():
                return str(place) if file.endswith(".json") else str(place / file)
    raise TargetError(
        f"no [model] target is given, and {places[0]} holds no model.onnx, no model.gguf and no config.json: "
        "name what to serve in carpool.toml"
    )
