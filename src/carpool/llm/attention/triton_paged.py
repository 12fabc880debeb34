"""Attention over blocks on CUDA: chunks and single tokens of one step in one launch a layer, by Triton kernels.

The keys and values are read where they lie, so that nothing is gathered or padded. Where a step has too few tiles to
fill the device the keys are cut into splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import triton

from carpool.errors import ConfigError
from carpool.llm.attention import triton_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carpool.llm.attention.interface import AttentionLayer
    from carpool.llm.runner import StepBatch

_ROWS = 16
"""The fewest rows of a matrix product: a device multiplies tiles of so many at the least."""
_MOST_QUERIES = 64
_TILE = 64
_MOST_SPLITS = 16
_WAVES = 2
"""Programs wanted for each of the device's processors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedStep:
    """What all layers of a step share, on the device.

    Args:
        starts: (S + 1,) int32; the tokens of sequence s are `starts[s]` to `starts[s + 1]`.
        contexts: (S,) int32; tokens of each in the cache, those of the step included.
        block_tables: (S, W) int32.
        slots: (rows,) int32; the place in the cache of each row; below zero for none.
        tile_sequence: (tiles,) int32; whose queries each tile holds.
        tile_first: (tiles,) int32; which of them is its first.
        queries_a_tile: tokens in a tile.
        num_splits: parts that the keys are cut into.
    """

    starts: torch.Tensor
    contexts: torch.Tensor
    block_tables: torch.Tensor
    slots: torch.Tensor
    tile_sequence: torch.Tensor
    tile_first: torch.Tensor
    queries_a_tile: int
    num_splits: int


def tile_queries(num_queries: NDArray[np.int32], queries_a_tile: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut the queries of each sequence into tiles.

    Args:
        num_queries: (S,); queries of each sequence.
        queries_a_tile: the most in one.

    Returns:
        Whose queries each tile holds, and which of them is its first.

    >>> tile_queries(np.array([1, 5], np.int32), 4)
    (array([0, 1, 1], dtype=int32), array([0, 0, 4], dtype=int32))
    """
    tiles = -(-num_queries // queries_a_tile)
    sequence = np.repeat(np.arange(len(num_queries), dtype=np.int32), tiles)
    before = np.repeat(np.cumsum(tiles) - tiles, tiles)
    first = (np.arange(len(sequence)) - before) * queries_a_tile
    return sequence, first.astype(np.int32)


def choose_splits(num_programs: int, longest: int, num_processors: int) -> int:
    """Choose into how many parts keys are cut: as many as fill the device, none of them shorter than a few tiles.

    Args:
        num_programs: tiles of queries times heads of keys.
        longest: keys of the longest sequence.
        num_processors: of the device.

    >>> choose_splits(num_programs=3, longest=4096, num_processors=132), choose_splits(3000, 4096, 132)
    (16, 1)
    """
    wanted = _WAVES * num_processors // max(num_programs, 1)
    possible = longest // (4 * _TILE)
    return max(1, min(wanted, possible, _MOST_SPLITS))


def queries_in_a_tile(most_queries: int, group: int) -> int:
    """Choose how many tokens a tile of queries has: few where each sequence has one, more for chunks.

    Args:
        most_queries: of a sequence in the step.
        group: heads of the query to one of the keys.
    """
    fewest = max(1, _ROWS // group)
    wanted: int = triton.next_power_of_2(min(most_queries, _MOST_QUERIES))
    return max(fewest, min(wanted, max(1, 2 * _MOST_QUERIES // group)))


def write_kv(
    key: torch.Tensor, value: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor
) -> None:
    """Put a step's keys and values into a layer's cache.

    Args:
        key: (T, Hkv, D), rows of each token side by side.
        value: as the key.
        keys: (blocks, block size, Hkv, D).
        values: as the keys.
        slots: (T,) int32, below zero for none.
    """
    width = key.shape[1] * key.shape[2]
    triton_kernels.write_kv[(len(slots),)](
        key.contiguous(),
        value.contiguous(),
        keys,
        values,
        slots,
        width,
        width,
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
    )


def attend(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    step: PagedStep,
    *,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
) -> torch.Tensor:
    """Attend from a step's tokens to all that came before them.

    Args:
        query: (T, H, D).
        keys: a layer's cache, (blocks, block size, Hkv, D), the step's own keys written already.
        values: as the keys.
        step: what is where.
        scale: what products are multiplied by.
        window: a token sees itself and the `window - 1` before it; 0 for all.
        soft_cap: products p become `soft_cap * tanh(p / soft_cap)`; 0 for no cap.

    Returns:
        (T, H, D).
    """
    query = query.contiguous()
    num_tokens, num_heads, size = query.shape
    block_size, num_key_heads = keys.shape[1:3]
    group, splits, flat = num_heads // num_key_heads, step.num_splits, num_tokens * num_heads
    padded_size = max(16, triton.next_power_of_2(size))
    out = torch.zeros_like(query)  # rows of no sequence stay so
    parts = query.new_zeros((splits, flat, size), dtype=torch.float32) if splits > 1 else out
    sums = query.new_zeros((2, splits, flat), dtype=torch.float32) if splits > 1 else out.new_empty((2, 1))
    triton_kernels.attend_tiles[(len(step.tile_sequence), num_key_heads, splits)](
        parts,
        sums[0],
        sums[1],
        query,
        keys,
        values,
        step.block_tables,
        step.starts,
        step.contexts,
        step.tile_sequence,
        step.tile_first,
        scale,
        soft_cap,
        step.block_tables.stride(0),
        num_heads * size,
        num_key_heads * size,
        flat,
        WINDOW=window,
        HAS_CAP=soft_cap > 0,
        NUM_HEADS=num_heads,
        GROUP=group,
        SIZE=size,
        PADDED_SIZE=padded_size,
        BLOCK_SIZE=block_size,
        BLOCK_Q=step.queries_a_tile,
        ROWS=max(_ROWS, triton.next_power_of_2(step.queries_a_tile * group)),
        TILE=_TILE,
        NUM_SPLITS=splits,
    )
    if splits > 1:
        triton_kernels.merge_splits[(flat,)](
            out,
            parts,
            sums[0],
            sums[1],
            flat,
            SIZE=size,
            PADDED_SIZE=padded_size,
            NUM_SPLITS=splits,
            PADDED_SPLITS=triton.next_power_of_2(splits),
        )
    return out


class TritonPagedAttention:
    """Keeps keys and values in blocks on a device, and attends to them where they lie.

    Args:
        layers: of the model, in order.
        num_blocks: blocks of each layer.
        block_size: tokens in a block.
        device: where the model is.
        dtype: of keys and values.
        num_processors: of the device; None asks it.

    Raises:
        ConfigError: a layer's values are of another size than its keys.
    """

    def __init__(
        self,
        layers: Sequence[AttentionLayer],
        *,
        num_blocks: int,
        block_size: int,
        device: torch.device,
        dtype: torch.dtype,
        num_processors: int | None = None,
    ) -> None:
        for index, layer in enumerate(layers):
            if layer.key_size != layer.value_size:
                raise ConfigError(
                    f"layer {index} has keys of {layer.key_size} elements and values of {layer.value_size}, which must "
                    "be alike for attention on CUDA: run this model on the CPU"
                )
        self._layers = tuple(layers)
        self._block_size = block_size
        self._device = device
        self._group = max(layer.num_heads // layer.num_kv_heads for layer in layers)
        self._fewest_heads = min(layer.num_kv_heads for layer in layers)
        self._num_processors = num_processors or _processors(device)
        shapes = [(num_blocks, block_size, layer.num_kv_heads, layer.key_size) for layer in layers]
        self._keys = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self._values = [torch.zeros(shape, device=device, dtype=dtype) for shape in shapes]
        self.cache_bytes = sum(cache.nbytes for cache in (*self._keys, *self._values))

    def prepare(self, batch: StepBatch, num_rows: int) -> PagedStep:
        """Send to the device what all layers share, in one copy.

        Args:
            batch: the step; T tokens.
            num_rows: rows that the layers will be given; those beyond T are not kept, and give zeros.
        """
        num_queries = np.diff(batch.starts)
        queries_a_tile = queries_in_a_tile(int(num_queries.max()), self._group)
        tile_sequence, tile_first = tile_queries(num_queries, queries_a_tile)
        longest = int(batch.contexts.max())
        num_splits = choose_splits(len(tile_first) * self._fewest_heads, longest, self._num_processors)
        starts, contexts, tables, slots, sequence, first = self._sent(
            batch.starts,
            batch.contexts,
            batch.block_tables,
            place_slots(batch, num_rows, self._block_size),
            tile_sequence,
            tile_first,
        )
        return PagedStep(
            starts=starts,
            contexts=contexts,
            block_tables=tables,
            slots=slots,
            tile_sequence=sequence,
            tile_first=first,
            queries_a_tile=queries_a_tile,
            num_splits=num_splits,
        )

    def static_step(self, num_sequences: int, width: int) -> PagedStep:
        """Make a step of single tokens whose arrays stay where they are, to be filled again and again.

        Args:
            num_sequences: most sequences; S.
            width: most blocks of a sequence.
        """
        each = torch.arange(num_sequences + 1, device=self._device, dtype=torch.int32)
        zeros = torch.zeros(3 + width, num_sequences, device=self._device, dtype=torch.int32)
        step = PagedStep(
            starts=each,
            contexts=zeros[0],
            block_tables=zeros[3:].view(num_sequences, width),
            slots=zeros[1],
            tile_sequence=each[:-1],
            tile_first=zeros[2],
            queries_a_tile=queries_in_a_tile(1, self._group),
            num_splits=choose_splits(
                num_sequences * self._fewest_heads, width * self._block_size, self._num_processors
            ),
        )
        self.fill(step, None)
        return step

    def fill(self, step: PagedStep, batch: StepBatch | None) -> None:
        """Put another step of single tokens into a static one.

        Args:
            step: of `static_step`.
            batch: no more sequences and blocks than it was made for; None for no sequence at all.
        """
        num_sequences, width = step.block_tables.shape
        contexts = np.ones(num_sequences, np.int32)  # what belongs to no sequence looks at one key, and keeps none
        slots = np.full(num_sequences, -1, np.int32)
        tables = np.zeros((num_sequences, width), np.int32)
        if batch is not None:
            contexts[: batch.num_sequences] = batch.contexts
            slots = place_slots(batch, num_sequences, self._block_size)
            wide = min(width, batch.block_tables.shape[1])
            tables[: batch.num_sequences, :wide] = batch.block_tables[:, :wide]
        sent = self._sent(contexts, slots, tables)
        for place, values in zip((step.contexts, step.slots, step.block_tables), sent, strict=True):
            place.copy_(values)

    def _sent(self, *arrays: NDArray[np.int32]) -> list[torch.Tensor]:
        """Send arrays of int32 to the device as one."""
        flat = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays]).astype(np.int32, copy=False))
        if self._device.type == "cuda":
            flat = flat.pin_memory()
        parts = torch.split(flat.to(self._device, non_blocking=True), [array.size for array in arrays])
        return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: PagedStep
    ) -> torch.Tensor:
        """Keep the step's keys and values, then let each token attend to its sequence's up to itself.

        Args:
            layer: which one.
            query: (rows, H, D).
            key: (rows, K, D).
            value: (rows, K, D).
            step: what `prepare` gave.

        Returns:
            (rows, H, D).
        """
        its = self._layers[layer]
        keys, values = self._keys[layer], self._values[layer]
        write_kv(key, value, keys, values, step.slots)
        return attend(
            query, keys, values, step, scale=its.scaling, window=its.window or 0, soft_cap=its.soft_cap or 0.0
        )

    def finish(self, step: PagedStep) -> None:
        """All has been done on the way."""


def place_slots(batch: StepBatch, num_rows: int, block_size: int) -> NDArray[np.int32]:
    """Say where in the cache each row goes: block x block size + place in the block; -1 for rows beyond the tokens.

    Args:
        batch: the step.
        num_rows: rows in all.
        block_size: tokens in a block.
    """
    slots = np.full(num_rows, -1, np.int32)
    sequence = np.repeat(np.arange(batch.num_sequences), np.diff(batch.starts))
    blocks = batch.block_tables[sequence, batch.positions // block_size]
    slots[: batch.num_tokens] = blocks * block_size + batch.positions % block_size
    return slots


def _processors(device: torch.device) -> int:
    found: int = torch.cuda.get_device_properties(device).multi_processor_count
    return found
