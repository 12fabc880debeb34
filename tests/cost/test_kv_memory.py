"""Memory of an LLM: how many blocks of keys and values fit beside its weights."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.cost.kv_memory import KvMemory
from carpool.errors import ConfigError

MEMORY = KvMemory(weights_bytes=1000, block_bytes=160, block_size=16)


@given(st.integers(0, 100_000))
def test_as_many_blocks_as_fit_and_not_one_more(limit_bytes: int) -> None:
    """What they need is within the limit; another one would not be."""
    blocks = MEMORY.blocks_within(limit_bytes)
    assert blocks == 0 or MEMORY.memory_bytes(blocks) <= limit_bytes
    assert MEMORY.memory_bytes(blocks + 1) > limit_bytes
    assert MEMORY.tokens_within(limit_bytes) == 16 * blocks


def test_memory_that_holds_no_block_is_refused_with_what_is_needed() -> None:
    """The weights alone, or a little more than them."""
    assert MEMORY.require_blocks(1160) == 1
    with pytest.raises(ConfigError, match=r"1\.13 KiB of memory hold no keys and values beside 1000 B"):
        MEMORY.require_blocks(1159)
