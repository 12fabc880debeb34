"""What a plan is made from: a profile, how far it is to be relied on, and what of it goes into a `carpool.toml`."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.config.document import decode, read_bytes
from carpool.config.syntax import parse_json
from carpool.plan.llm_predict import LlmSubject
from carpool.plan.llm_workload_table import llm_to_table
from carpool.plan.settings_file import Origin
from carpool.plan.subject import Subject
from carpool.plan.workload_table import to_table
from carpool.profile.artefact import Profile, checked
from carpool.profile.llm_artefact import GENERATOR, LlmProfile
from carpool.profile.machine import Machine, describe_machine
from carpool.profile.validity import machine_differences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.plan.llm_workload import LlmWorkload
    from carpool.plan.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a plan is made from.

    Args:
        path: The profile's file.
        sha256: Hash of its content.
        profile: What it holds.
        subject: What a plan needs of that.
    """

    path: Path
    sha256: str
    profile: Profile
    subject: Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSource:
    """What a plan for a model that generates is made from.

    Args:
        path: The profile's file.
        sha256: Hash of its content.
        profile: What it holds.
        subject: What a plan needs of that.
    """

    path: Path
    sha256: str
    profile: LlmProfile
    subject: LlmSubject


def read_source(path: Path) -> Source | LlmSource:
    """Read a profile of either kind, and take the hash of what was read.

    Raises:
        ConfigError: It can't be read, was changed, or too little was measured.
        SchemaError: It is no profile, or one of another version.
    """
    data = read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if not path.name.endswith(".toml") and parse_json(data, str(path)).get("kind") == GENERATOR:
        generator = checked(decode(data, LlmProfile, str(path)), str(path))
        return LlmSource(path=path, sha256=sha256, profile=generator, subject=LlmSubject.of(generator))
    profile = checked(decode(data, Profile, str(path)), str(path))
    return Source(path=path, sha256=sha256, profile=profile, subject=Subject.of(profile))


def doubts_about(source: Source | LlmSource) -> Iterator[str]:
    """Say what speaks against a profile's figures: how they were taken, and that they are of another machine."""
    trust = source.profile.trust
    if not trust.trusted:
        yield f"{source.path} is not to be relied on ({'; '.join(trust.reasons)}): {trust.remedy}."
    machine = source.profile.machine
    differences = machine_differences(machine, machine_here(machine))
    if differences:
        yield (
            f"{source.path} was measured on another machine, or with other software ({'; '.join(differences)}): the "
            "plan holds there. Profile here for one that holds here."
        )


def machine_here(profiled: Machine) -> Machine:
    """Describe this machine as far as a profile's can be compared with it, without loading what computes."""
    device = profiled.device if profiled.device == "cpu" or _has_accelerator() else "cpu"
    here = describe_machine(device, profiled.dtype, profiled.num_threads)
    installed = {name: _installed(name) for name in profiled.versions if name not in here.versions}
    return replace(here, versions=here.versions | installed)


def _has_accelerator() -> bool:
    """Tell whether PyTorch finds an accelerator here, which only PyTorch itself can."""
    try:
        import torch
    except ModuleNotFoundError:
        return False
    return bool(torch.accelerator.is_available())


def _installed(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def origin_of_generator(source: LlmSource, load: LlmWorkload, directory: Path) -> Origin:
    """Say what a plan for a model that generates was made from.

    Args:
        source: The profile.
        load: What arrives.
        directory: Where the settings are written, which name files from there.
    """
    machine = source.profile.machine
    workload = llm_to_table(load, beside=directory)
    return _origin(source, directory, device=machine.device, dtype=machine.dtype or None, workload=workload)


def origin_of(source: Source, load: Workload, directory: Path) -> Origin:
    """Say what a plan was made from, so that a server finds it and runs the model as it was measured.

    Args:
        source: The profile.
        load: What arrives.
        directory: Where the settings are written, which name files from there.
    """
    profile, machine = source.profile, source.profile.machine
    workload = to_table(load, beside=directory)
    if load.lengths == source.subject.example_lengths:
        workload.pop("lengths", None)  # they are in the profile
    device = None if profile.kind == "function" else machine.device
    dtype = machine.dtype if profile.kind in ("torch", "encoder") and machine.dtype else None
    return _origin(source, directory, device=device, dtype=dtype, workload=workload)


def _origin(
    source: Source | LlmSource, directory: Path, *, device: str | None, dtype: str | None, workload: dict[str, Any]
) -> Origin:
    machine = source.profile.machine
    return Origin(
        profile=Path(os.path.relpath(source.path, directory)).as_posix(),
        profile_sha256=source.sha256,
        device=device,
        dtype=dtype,
        num_threads=machine.num_threads if machine.device == "cpu" else None,
        workload=workload,
    )
