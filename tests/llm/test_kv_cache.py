"""How many blocks fit."""

from pathlib import Path

import pytest
import torch

from carpool.errors import ConfigError
from carpool.llm import kv_cache
from carpool.llm.attention.interface import AttentionLayer
from carpool.llm.kv_cache import available_bytes, block_bytes, num_blocks_for

_GIB = 1 << 30


def test_a_block_holds_keys_and_values_of_all_layers() -> None:
    """Layers may differ: each counts what it keeps."""
    layers = [
        AttentionLayer(num_heads=9, num_kv_heads=3, key_size=64, value_size=64, scaling=1.0),
        AttentionLayer(num_heads=4, num_kv_heads=1, key_size=24, value_size=16, scaling=1.0),
    ]
    assert block_bytes(layers, block_size=16, element_bytes=2) == (3 * 128 + 40) * 16 * 2


def test_a_cache_takes_no_more_than_its_share_of_what_is_available() -> None:
    """And no more than could ever be used."""
    assert num_blocks_for(_GIB, available_bytes=10 * _GIB) == 8
    assert num_blocks_for(_GIB, available_bytes=10 * _GIB, most_blocks=3) == 3


def test_more_memory_than_there_is_is_refused_with_what_would_do() -> None:
    """The message has the value, the limit and the remedy."""
    with pytest.raises(ConfigError, match=r"kv_memory is 9 GiB, but 10 GiB are available.*ask for 8 GiB or less"):
        num_blocks_for(_GIB, available_bytes=10 * _GIB, wanted_bytes=9 * _GIB)


def test_memory_for_less_than_one_block_is_refused() -> None:
    """A cache of nothing computes nothing."""
    with pytest.raises(ConfigError, match=r"may take 512 MiB, but one block of it takes 1 GiB: give the cache more"):
        num_blocks_for(_GIB, available_bytes=10 * _GIB, wanted_bytes=_GIB // 2)


def _machine(directory: Path, monkeypatch: pytest.MonkeyPatch, available_gib: int) -> None:
    meminfo = directory / "meminfo"
    meminfo.write_text(f"MemTotal: 99 kB\nMemAvailable: {available_gib << 20} kB\n")
    monkeypatch.setattr(kv_cache, "_MEMINFO", meminfo)
    monkeypatch.setattr(kv_cache, "_CGROUPS", directory)


def test_a_machine_without_containers_has_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MemAvailable, in full."""
    _machine(tmp_path, monkeypatch, 20)
    assert available_bytes(torch.device("cpu")) == 20 * _GIB


@pytest.mark.parametrize(
    ("version", "names"),
    [
        (2, ("memory.max", "memory.current", "memory.stat")),
        (1, ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat")),
    ],
)
def test_a_container_has_what_its_limit_leaves(
    version: int, names: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What files take of its use can be had again."""
    _machine(tmp_path, monkeypatch, 20)
    (tmp_path / "memory").mkdir()
    for name, text in zip(names, (str(8 * _GIB), str(5 * _GIB), f"anon 1\ninactive_file {2 * _GIB}"), strict=True):
        (tmp_path / name).write_text(text)
    assert available_bytes(torch.device("cpu")) == 5 * _GIB


def test_a_container_without_a_limit_has_what_the_machine_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 2 of control groups writes "max"."""
    _machine(tmp_path, monkeypatch, 20)
    (tmp_path / "memory.max").write_text("max")
    assert available_bytes(torch.device("cpu")) == 20 * _GIB
