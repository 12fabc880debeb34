"""How much memory a batch may need: what was asked for, or what machine, container and the user's limits leave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from carpool.profile.device import Device

CGROUP_ROOT = Path("/sys/fs/cgroup")
PROC_CGROUP = Path("/proc/self/cgroup")
AVAILABLE_SHARE = 0.8
# cgroup v1 writes "no limit" as the largest number of pages.
NO_LIMIT = 1 << 60


class _Files(NamedTuple):
    """What a version of control groups calls its limit, its usage, and the part of that which can be given up."""

    limit: str
    usage: str
    cache: str


V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = _Files("memory.max", "memory.current", "inactive_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """The most that a probe may need, and who says so."""

    limit_bytes: int
    source: str


def find_limit(given_bytes: int | None = None, *, device: Device | None = None, num_processes: int = 1) -> MemoryLimit:
    """Return the tightest limit that holds for a process beside this one.

    Args:
        given_bytes: What the user asked for; a tighter one of the machine's still holds.
        device: Where the model computes; an accelerator's own free memory is then the limit.
        num_processes: Processes that share the machine's memory evenly; each has an accelerator to itself.
    """
    if device is not None and device.is_accelerator:
        limits = [_device_limit(device.name)]
    else:
        limits = [*_shared(num_processes), *_process_limits()]
    if given_bytes is not None:
        limits.append(MemoryLimit(limit_bytes=given_bytes, source="as asked for"))
    return min(limits, key=lambda limit: limit.limit_bytes)


def _shared(num_processes: int) -> list[MemoryLimit]:
    """Return what one of several processes may take of the memory that machine and container leave."""
    import psutil

    left = MemoryLimit(limit_bytes=psutil.virtual_memory().available, source="the memory available")
    among = f", shared by {num_processes} processes" if num_processes > 1 else ""
    return [
        MemoryLimit(
            limit_bytes=int(AVAILABLE_SHARE * limit.limit_bytes / num_processes),
            source=f"{AVAILABLE_SHARE:.0%} of {limit.source}{among}",
        )
        for limit in (left, *cgroup_limits(CGROUP_ROOT, _own_cgroup(PROC_CGROUP), _own_cgroup_v1(PROC_CGROUP)))
    ]


def _device_limit(name: str) -> MemoryLimit:
    import torch

    free, _ = torch.accelerator.get_memory_info(torch.device(name))
    return MemoryLimit(limit_bytes=int(0.95 * free), source=f"95% of the memory free on {name}")


def _own_cgroup(path: Path) -> str:
    """Return this process's place in the tree of control groups, `/` where there is none."""
    return next((row.split("::", 1)[1] for row in _rows(path) if row.startswith("0::")), "/")


def _own_cgroup_v1(path: Path) -> str:
    """Return this process's place in version 1's tree for memory, `/` where there is none."""
    parts = [row.split(":", 2) for row in _rows(path)]
    return next((part[2] for part in parts if len(part) > 2 and "memory" in part[1].split(",")), "/")  # noqa: PLR2004


def _rows(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def cgroup_limits(root: Path, own: str, own_v1: str = "/") -> list[MemoryLimit]:
    """Return what each control group around this process leaves: its limit less what it already uses.

    Args:
        root: Where control groups are mounted.
        own: This process's group below it, in version 2.
        own_v1: Its group below `memory`, in version 1.
    """
    v1 = root / "memory"
    found = [
        *(_limit(place, V2, "what is left of the container's memory (cgroup v2)") for place in _around(root, own)),
        *(_limit(place, V1, "what is left of the container's memory (cgroup v1)") for place in _around(v1, own_v1)),
    ]
    return [one for one in found if one is not None]


def _around(root: Path, own: str) -> list[Path]:
    """Return a group and those that it lies in."""
    group = root / own.lstrip("/")
    return [group, *(parent for parent in group.parents if parent == root or root in parent.parents)]


def _limit(place: Path, names: _Files, source: str) -> MemoryLimit | None:
    try:
        most = int((place / names.limit).read_text(encoding="ascii"))
        used = int((place / names.usage).read_text(encoding="ascii"))
    except (OSError, ValueError):  # not there, or "max"
        return None
    if most >= NO_LIMIT:
        return None
    # Files that were read and not lately are in the count, and are the first to go.
    held = used - _statistic(place / "memory.stat", names.cache)
    return MemoryLimit(limit_bytes=max(0, most - held), source=source)


def _statistic(path: Path, name: str) -> int:
    return next((int(row.split()[1]) for row in _rows(path) if row.startswith(f"{name} ")), 0)


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
