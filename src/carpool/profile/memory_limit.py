"""How much memory a batch may need: what was asked for, or what machine, container and the user's limits leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.profile.device import Device

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")
AVAILABLE_SHARE = 0.8
# cgroup v1 writes "no limit" as the largest number of pages.
NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """The most that a probe may need, and who says so."""

    limit_bytes: int
    source: str


def find_limit(given_bytes: int | None = None, *, device: Device | None = None) -> MemoryLimit:
    """Return the tightest limit that holds for a process beside this one.

    Args:
        given_bytes: What the user asked for; a tighter one of the machine's still holds.
        device: Where the model computes; an accelerator's own free memory is then the limit.
    """
    if device is not None and device.is_accelerator:
        limits = [_device_limit(device.name)]
    else:
        limits = [_available(), *cgroup_limits(CGROUP_ROOT, _own_cgroup(PROC_CGROUP)), *_process_limits()]
    if given_bytes is not None:
        limits.append(MemoryLimit(limit_bytes=given_bytes, source="as asked for"))
    return min(limits, key=lambda limit: limit.limit_bytes)


def _available() -> MemoryLimit:
    import psutil

    available = int(AVAILABLE_SHARE * psutil.virtual_memory().available)
    return MemoryLimit(limit_bytes=available, source=f"{AVAILABLE_SHARE:.0%} of the memory available")


def _device_limit(name: str) -> MemoryLimit:
    import torch

    free, _ = torch.accelerator.get_memory_info(torch.device(name))
    return MemoryLimit(limit_bytes=int(0.95 * free), source=f"95% of the memory free on {name}")


def _own_cgroup(path: Path) -> str:
    """Return this process's place in the tree of control groups, `/` where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "/"
    unified = [line.split("::", 1)[1] for line in lines if line.startswith("0::")]
    return unified[0] if unified else "/"


def cgroup_limits(root: Path, own: str) -> list[MemoryLimit]:
    """Return what each control group around this process leaves: its limit less what it already uses.

    Args:
        root: Where control groups are mounted.
        own: This process's group below it, in version 2.
    """
    group = root / own.lstrip("/")
    groups = [group, *(parent for parent in group.parents if parent == root or root in parent.parents)]
    found = [_limit(place, "memory.max", "memory.current", "the container's memory (cgroup v2)") for place in groups]
    usage, limit = "memory.usage_in_bytes", "memory.limit_in_bytes"
    found.append(_limit(root / "memory", limit, usage, "the container's memory (cgroup v1)"))
    return [one for one in found if one is not None]


def _limit(place: Path, limit: str, usage: str, source: str) -> MemoryLimit | None:
    try:
        most = int((place / limit).read_text(encoding="ascii"))
        used = int((place / usage).read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return None
    return None if most >= NO_LIMIT else MemoryLimit(limit_bytes=max(0, most - used), source=source)


def _process_limits() -> list[MemoryLimit]:
    """Return the limits of `ulimit` on address space and data; Windows has none."""
    try:
        import resource
    except ModuleNotFoundError:
        return []
    found = []
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        soft = resource.getrlimit(getattr(resource, name))[0]
        if soft not in (resource.RLIM_INFINITY, -1):
            found.append(MemoryLimit(limit_bytes=int(soft), source=f"the process's own limit ({name})"))
    return found
