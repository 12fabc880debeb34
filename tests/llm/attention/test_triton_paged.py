"""Attention over blocks by Triton kernels, run by Triton's interpreter, against the formula in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from carpool.errors import ConfigError
from carpool.llm.attention import triton_paged
from carpool.llm.attention.interface import AttentionLayer
from carpool.llm.attention.triton_paged import TritonPagedAttention
from carpool.llm.runner import StepBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRECISION = {torch.float32: 2e-5, torch.float16: 4e-3}
CPU = torch.device("cpu")


def make_batch(num_queries: list[int], contexts: list[int], block_size: int, seed: int = 0) -> StepBatch:
    """Make a step whose sequences own blocks in random order."""
    width = max(contexts) // block_size + 1
    tables = np.random.default_rng(seed).permutation(len(contexts) * width).reshape(len(contexts), width)
    starts = np.concatenate([[0], np.cumsum(num_queries)])
    positions = [np.arange(context - num, context) for num, context in zip(num_queries, contexts, strict=True)]
    return StepBatch(
        token_ids=np.zeros(starts[-1], np.int64),
        positions=np.concatenate(positions).astype(np.int64),
        starts=starts.astype(np.int32),
        contexts=np.array(contexts, np.int32),
        block_tables=tables.astype(np.int32),
        rows=starts[1:] - 1,
    )


def by_formula(
    layer: AttentionLayer, query: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]
) -> torch.Tensor:
    """Attend in float64, sequence by sequence: keys and values (context, K, D) of each, queries its last ones."""
    group, start = layer.num_heads // layer.num_kv_heads, 0
    out: list[torch.Tensor] = []
    for k, v in zip(keys, values, strict=True):
        num = NUM_QUERIES[len(out)]
        q = query[start : start + num].double()
        start += num
        k64, v64 = (each.double().repeat_interleave(group, dim=1) for each in (k, v))
        product = torch.einsum("thd,lhd->htl", q, k64) * layer.scaling
        if layer.soft_cap:
            product = layer.soft_cap * torch.tanh(product / layer.soft_cap)
        behind = torch.arange(len(k) - num, len(k))[:, None] - torch.arange(len(k))
        seen = (behind >= 0) & (behind < (layer.window or len(k)))
        weights = product.masked_fill(~seen, -torch.inf).softmax(-1)
        out.append(torch.einsum("htl,lhd->thd", weights, v64))
    return torch.cat(out)


NUM_QUERIES = [1, 5, 3, 9]
CONTEXTS = [70, 5, 17, 12]


@pytest.mark.parametrize(
    ("dtype", "heads", "kv_heads", "size", "block_size", "window", "soft_cap", "num_splits"),
    [
        (torch.float32, 6, 3, 64, 16, None, None, 1),
        (torch.float32, 4, 1, 16, 32, None, None, 3),
        (torch.float32, 2, 2, 80, 8, 7, None, 1),
        (torch.float32, 2, 1, 32, 16, 7, 5.0, 3),
        (torch.float16, 4, 2, 64, 16, None, 5.0, 1),
        (torch.float16, 2, 2, 32, 8, None, None, 3),
    ],
)
def test_equals_the_formula(
    monkeypatch: pytest.MonkeyPatch,
    *,
    dtype: torch.dtype,
    heads: int,
    kv_heads: int,
    size: int,
    block_size: int,
    window: int | None,
    soft_cap: float | None,
    num_splits: int,
) -> None:
    """Chunks and single tokens together, in two steps, with rows that belong to no sequence."""
    monkeypatch.setattr(triton_paged, "choose_splits", lambda *_: num_splits)
    layer = AttentionLayer(
        num_heads=heads,
        num_kv_heads=kv_heads,
        key_size=size,
        value_size=size,
        scaling=size**-0.5,
        window=window,
        soft_cap=soft_cap,
    )
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    batch = make_batch(NUM_QUERIES, CONTEXTS, block_size)
    backend = TritonPagedAttention(
        [layer],
        num_blocks=batch.block_tables.size,
        block_size=block_size,
        device=CPU,
        dtype=dtype,
        num_processors=1,
    )
    keys = [random(context, kv_heads, size) for context in CONTEXTS]
    values = [random(context, kv_heads, size) for context in CONTEXTS]
    query = random(sum(NUM_QUERIES) + 3, heads, size)

    before = [context - num for context, num in zip(CONTEXTS, NUM_QUERIES, strict=True)]
    having = [index for index, num in enumerate(before) if num]
    earlier = make_batch([before[i] for i in having], [before[i] for i in having], block_size)
    earlier.block_tables[:, :] = batch.block_tables[having, : earlier.block_tables.shape[1]]
    num_earlier = sum(before)
    early = [torch.cat([each[i][: before[i]] for i in having]) for each in (keys, values)]
    backend.attend(0, random(num_earlier, heads, size), early[0], early[1], backend.prepare(earlier, num_earlier))
    new_keys, new_values = (
        torch.cat([*(each[i][before[i] :] for i in range(len(before))), random(3, kv_heads, size)])
        for each in (keys, values)
    )
    found = backend.attend(0, query, new_keys, new_values, backend.prepare(batch, len(query)))

    expected = by_formula(layer, query, keys, values)
    assert (found[:-3].double() - expected).abs().max() < PRECISION[dtype]
    assert not found[-3:].any(), "rows of no sequence give zeros"


def test_tiles_hold_each_query_once() -> None:
    """The tiles of a sequence cover its queries side by side."""
    num_queries: NDArray[np.int32] = np.array([1, 9, 0, 4], np.int32)
    sequence, first = triton_paged.tile_queries(num_queries, 4)
    covered = [(s, f + i) for s, f in zip(sequence, first, strict=True) for i in range(4) if f + i < num_queries[s]]
    assert sorted(covered) == [(s, i) for s, num in enumerate(num_queries) for i in range(num)]


def test_few_long_sequences_are_split_to_fill_the_device() -> None:
    """What fills the device already, or is short, is not split."""
    assert triton_paged.choose_splits(8, 32_768, 132) == 16
    assert triton_paged.choose_splits(8, 300, 132) == 1
    assert triton_paged.choose_splits(10_000, 32_768, 132) == 1


def test_values_of_another_size_than_keys_are_refused() -> None:
    """Some architectures have them; the kernels do not compute them."""
    layer = AttentionLayer(num_heads=2, num_kv_heads=1, key_size=64, value_size=32, scaling=1.0)
    with pytest.raises(ConfigError, match="layer 0 has keys of 64 elements and values of 32"):
        TritonPagedAttention([layer], num_blocks=1, block_size=16, device=CPU, dtype=torch.float32, num_processors=1)
