"""Whether a profile says anything of a model and a machine: figures hold for what they were measured on."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from carpool.profile.artefact import Profile
    from carpool.profile.llm_artefact import LlmProfile
    from carpool.profile.machine import Machine


def require_target(profile: Profile | LlmProfile, target: str, *, path: Path, directory: Path) -> None:
    """Refuse a profile of another model.

    Args:
        profile: What was read.
        target: The TARGET that is wanted.
        path: The file that the profile was read from, for the message.
        directory: Where relative paths begin.

    Raises:
        ConfigError: It is of another target; the message names both, the file and the remedy.
    """
    if not same_target(profile.target, target, directory):
        raise ConfigError(
            f"{path} is a profile of {profile.target}, and says nothing of {target}: measure that by "
            f"`carpool profile {target} --out DIR`, or leave the profile out"
        )


def same_target(one: str, other: str, directory: Path) -> bool:
    """Whether two TARGETs name the same model: a file by any path is the same file.

    Where a file has moved since, or is on another machine, it is the same where one path ends as the other.

    Args:
        one: A TARGET.
        other: Another.
        directory: Where relative paths begin.

    Example:
        >>> same_target("models.py:f", "./models.py:f", Path("project"))
        True
        >>> same_target("models.py:f", "models.py:g", Path("project"))
        False
    """
    (path, name), (other_path, other_name) = _parts(one, directory), _parts(other, directory)
    if path is None or other_path is None or name != other_name:
        return one == other
    whole, other_whole = directory / path, directory / other_path
    if whole.exists() and other_whole.exists():
        return whole.resolve() == other_whole.resolve()
    return _ends_alike(whole.resolve(), PurePath(other_path)) or _ends_alike(other_whole.resolve(), PurePath(path))


def _parts(target: str, directory: Path) -> tuple[str | None, str]:
    """Return the path in a TARGET, None where it has none, and the name after it."""
    if target.startswith("demo:"):
        return None, target
    if (directory / target).exists() or target.endswith(".onnx"):
        return target, ""
    head, colon, name = target.rpartition(":")
    if colon and (head.endswith(".py") or "/" in head or "\\" in head):
        return head, name
    return (target, "") if not colon and "/" in target else (None, target)


def _ends_alike(path: PurePath, tail: PurePath) -> bool:
    named = tuple(part for part in tail.parts if part not in (tail.anchor, ".."))
    return bool(named) and path.parts[-len(named) :] == named


def machine_differences(profiled: Machine, here: Machine) -> tuple[str, ...]:
    """Say in what two machines differ that times depend on, one difference a line; nothing where they agree.

    Memory is not compared: it limits how much fits, not how long it takes. Nor is what is known of one alone.

    Args:
        profiled: Where the profile was measured.
        here: Where its times are to hold.

    Example:
        >>> from dataclasses import replace
        >>> from carpool.profile.machine import describe_machine
        >>> here = describe_machine("cpu", "float32", 2)
        >>> machine_differences(replace(here, num_threads=4), here)
        ('threads: 4 in the profile, 2 here',)
    """
    pairs = {
        "device": (_kind(profiled.device), _kind(here.device)),
        "device name": (profiled.device_name, here.device_name),
        "dtype": (profiled.dtype, here.dtype),
        "threads": (profiled.num_threads, here.num_threads),
        "cores": (profiled.num_cores, here.num_cores),
        "platform": (profiled.platform, here.platform),
        **{name: (version, here.versions.get(name)) for name, version in profiled.versions.items()},
    }
    return tuple(
        f"{name}: {there} in the profile, {found} here"
        for name, (there, found) in pairs.items()
        if there not in (None, "") and found not in (None, "") and there != found
    )


def _kind(device: str) -> str:
    """Return a device without its number: two of one name are alike."""
    return device.partition(":")[0]
