"""How many blocks of keys and values fit the memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from carpool.llm.attention.interface import AttentionLayer

MOST_SHARE = 0.8
"""Of the memory that is available, the most that a cache may take."""
_CGROUPS, _MEMINFO = Path("/sys/fs/cgroup"), Path("/proc/meminfo")
_KIB = 1024
_NO_LIMIT = 1 << 60  # version 1 of control groups writes so when there is none


def block_bytes(layers: Sequence[AttentionLayer], *, block_size: int, element_bytes: int) -> int:
    """Say what a block takes in all layers, bytes.

    Args:
        layers: of the model.
        block_size: tokens in a block.
        element_bytes: of the cache's type.
    """
    return sum(layer.elements_per_token for layer in layers) * block_size * element_bytes


def num_blocks_for(
    bytes_per_block: int, *, available_bytes: int, wanted_bytes: int | None = None, most_blocks: int | None = None
) -> int:
    """Choose how many blocks to keep.

    Args:
        bytes_per_block: in all layers.
        available_bytes: memory that nothing else needs.
        wanted_bytes: memory for the cache, where somebody has said so.
        most_blocks: more would never be used.

    Raises:
        ConfigError: more memory is wanted than may be taken, or not one block fits.

    >>> num_blocks_for(1000, available_bytes=10_000), num_blocks_for(1000, available_bytes=10_000, wanted_bytes=5_500)
    (8, 5)
    """
    limit = int(MOST_SHARE * available_bytes)
    if wanted_bytes is not None and wanted_bytes > limit:
        raise ConfigError(
            f"kv_memory is {format_bytes(wanted_bytes)}, but {format_bytes(available_bytes)} are available, of which a "
            f"cache may take {MOST_SHARE:.0%}: ask for {format_bytes(limit)} or less"
        )
    num_blocks = (limit if wanted_bytes is None else wanted_bytes) // bytes_per_block
    if num_blocks < 1:
        raise ConfigError(
            f"the cache may take {format_bytes(limit if wanted_bytes is None else wanted_bytes)}, but one block of it "
            f"takes {format_bytes(bytes_per_block)}: give the cache more by kv_memory"
        )
    return num_blocks if most_blocks is None else min(num_blocks, most_blocks)


def available_bytes(device: torch.device) -> int:
    """Memory that a cache could take on a device: what the machine has left, and what a container leaves of it.

    Args:
        device: where the cache lies.
    """
    if device.type != "cpu":
        import torch

        return int(torch.accelerator.get_memory_info(device)[0])
    return min(_machine_bytes(_MEMINFO), *_container_bytes(_CGROUPS))


def _machine_bytes(path: Path) -> int:
    """What `MemAvailable` says; psutil knows where there is no such file, as outside Linux."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        import psutil

        return int(psutil.virtual_memory().available)
    return next(int(line.split()[1]) * _KIB for line in lines if line.startswith("MemAvailable:"))


def _container_bytes(root: Path) -> list[int]:
    """What the control group that this process sees as its root leaves, where it has a limit; files read count as left.

    Args:
        root: where control groups are mounted.
    """
    version_2 = root / "memory.max", root / "memory.current", root / "memory.stat"
    version_1 = (root / "memory" / f"memory.{name}" for name in ("limit_in_bytes", "usage_in_bytes", "stat"))
    left = [_NO_LIMIT]
    for limit_path, used_path, stat_path in (version_2, version_1):
        try:
            limit, used = int(limit_path.read_text()), int(used_path.read_text())
            stat = dict(line.split() for line in stat_path.read_text().splitlines())
        except (OSError, ValueError):  # no such file, or "max"
            continue
        left.append(max(limit - used + int(stat.get("inactive_file", 0)), 0))
    return left
