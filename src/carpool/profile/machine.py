"""The machine and the software that figures were measured on: without them they mean nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from carpool import __version__
from carpool.models.loaded_torch import loaded_torch

PACKAGES = ("numpy", "torch", "transformers", "tokenizers", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the figures hold for.

    Args:
        device: As PyTorch names it.
        device_name: What its maker calls it.
        num_cores: Processor cores that this process may use.
        num_threads: Threads of one operation; None where it could not be learned.
        memory_bytes: Memory of the machine.
        dtype: Of the model's weights; empty where that has no meaning.
        platform: Operating system and processor family.
        versions: Of Python, Carpool and the libraries that compute.
    """

    device: str
    device_name: str
    num_cores: int
    num_threads: int | None
    memory_bytes: int
    dtype: str
    platform: str
    versions: dict[str, str]

    def as_measured_on(self) -> dict[str, str]:
        """Return the same as plain text, for the cost model to carry."""
        return {
            "device": self.device,
            "device_name": self.device_name,
            "dtype": self.dtype,
            "num_threads": "" if self.num_threads is None else str(self.num_threads),
            "platform": self.platform,
            **self.versions,
        }


def describe_machine(device: str, dtype: str, num_threads: int | None) -> Machine:
    """Look at this machine; call it on the thread that the model runs on, whose threads it asks for."""
    import psutil

    return Machine(
        device=device,
        device_name=_device_name(device),
        num_cores=_num_cores(),
        num_threads=num_threads if num_threads is not None else _torch_threads(),
        memory_bytes=psutil.virtual_memory().total,
        dtype=dtype,
        platform=f"{platform.system()} {platform.machine()}",
        versions=_versions(),
    )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _torch_threads() -> int | None:
    torch = loaded_torch()
    return None if torch is None else int(torch.get_num_threads())


def _device_name(device: str) -> str:
    torch = loaded_torch()
    if device.startswith("cuda") and torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return processor_name(Path("/proc/cpuinfo")) if device == "cpu" else device


def processor_name(cpuinfo: Path) -> str:
    """Return the processor's name from Linux's list, or what Python knows."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"carpool": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        if package in sys.modules:
            found[package] = importlib.metadata.version(package)
    return found
