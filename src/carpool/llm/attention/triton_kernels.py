"""Attention over keys and values that lie in blocks, as Triton kernels: chunks and single tokens of one step together.

A program takes a tile of queries that share one head of keys: `BLOCK_Q` tokens of a sequence times the `GROUP` heads of
the query that look at it, so that the keys are read once for all of them. It walks over the sequence's keys in tiles,
finding each key through the block table, and keeps the running maximum and sum of the softmax (Milakov and Gimelshein
2018, "Online normalizer calculation for softmax"). Few long sequences leave most of a device idle, so keys may be cut
into splits that are attended to side by side and merged by a second kernel (Dao et al. 2023, "Flash-Decoding").
"""

import triton
import triton.language as tl


@triton.jit
def write_kv(
    key,
    value,
    keys,
    values,
    slots,
    source_stride,
    cache_stride,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Put the step's keys and values into their places; one program a token.

    Args:
        key: (T, WIDTH), its rows `source_stride` apart.
        value: as the key.
        keys: the layer's cache, (slots, WIDTH), rows `cache_stride` apart.
        values: as the keys.
        slots: (T,) int32; the row of the cache that each token goes to; below zero for none.
        source_stride: elements from token to token.
        cache_stride: elements from slot to slot.
        WIDTH: heads times the size of one.
        PADDED: the power of two at or above it.
    """
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    column = tl.arange(0, PADDED)
    source = token * source_stride + column
    target = slot * cache_stride + column
    mask = (column < WIDTH) & (target >= 0)  # which it is not where the slot is below zero
    tl.store(keys + target, tl.load(key + source, mask=mask), mask=mask)
    tl.store(values + target, tl.load(value + source, mask=mask), mask=mask)


@triton.jit
def _keys_of_split(
    context,
    num_queries,
    first,
    split,
    WINDOW: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    TILE: tl.constexpr,
    NUM: tl.constexpr,
):
    """Return where the keys begin and end that one split of a tile of queries looks at."""
    before = context - num_queries + first
    last = tl.minimum(before + BLOCK_Q, context)  # no query of the tile sees a key from here on
    begin = 0
    if WINDOW > 0:
        begin = tl.maximum(before - WINDOW + 1, 0) // TILE * TILE
    low = begin + split * (tl.cdiv(tl.cdiv(last - begin, TILE), NUM) * TILE)
    high = tl.minimum(low + tl.cdiv(tl.cdiv(last - begin, TILE), NUM) * TILE, last)
    return low, high


@triton.jit
def _scores(q, k, scale, soft_cap, seen, HAS_CAP: tl.constexpr):
    """Return what queries think of keys, times log2(e): exp2 is cheaper than exp."""
    product = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    if HAS_CAP:
        product = soft_cap * (1.0 - 2.0 / (tl.exp(2.0 * product / soft_cap) + 1.0))  # tanh
    return tl.where(seen, product * 1.4426950408889634, float("-inf"))


@triton.jit
def _absorb(top, total, gathered, score, v):
    """Add a tile of scores and values to what was gathered, under a maximum that may rise."""
    higher = tl.maximum(top, tl.max(score, 1))
    anchor = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet: no -inf less -inf
    weight = tl.exp2(score - anchor[:, None])
    shrink = tl.exp2(top - anchor)
    product = tl.dot(weight.to(v.dtype), v, input_precision="ieee")
    return higher, total * shrink + tl.sum(weight, 1), gathered * shrink[:, None] + product


# One argument a line would be half of it.
# fmt: off
@triton.jit
def attend_tiles(
    out, part_sums, part_tops, query, keys, values, block_tables, starts, contexts, tile_sequence, tile_first, scale,
    soft_cap, table_stride, query_stride, cache_stride, split_stride, WINDOW: tl.constexpr, HAS_CAP: tl.constexpr,
    NUM_HEADS: tl.constexpr, GROUP: tl.constexpr, SIZE: tl.constexpr, PADDED_SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, BLOCK_Q: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, NUM_SPLITS: tl.constexpr,
):
    """Attend to the keys of one sequence from one tile of its queries: program (tile, head of keys, split).

    Args:
        out: (T, NUM_HEADS, SIZE); with splits (NUM_SPLITS, T, NUM_HEADS, SIZE) float32, not divided by the sums.
        part_sums: (NUM_SPLITS, T, NUM_HEADS) float32; the softmax's sums. Written with splits only, as is the next.
        part_tops: as the sums; its maxima, times log2(e).
        query: (T, NUM_HEADS, SIZE), tokens `query_stride` apart.
        keys: the layer's cache, (blocks x BLOCK_SIZE, heads of keys, SIZE), tokens `cache_stride` apart.
        values: as the keys.
        block_tables: (S, W) int32, rows `table_stride` apart.
        starts: (S + 1,) int32.
        contexts: (S,) int32.
        tile_sequence: (tiles,) int32; whose queries a tile holds.
        tile_first: (tiles,) int32; which of them is its first.
        scale: what products are multiplied by.
        soft_cap: products p become `soft_cap * tanh(p / soft_cap)`, if HAS_CAP.
        table_stride: elements from sequence to sequence.
        query_stride: elements from token to token.
        cache_stride: elements from token to token.
        split_stride: T x NUM_HEADS, or more: heads from split to split.
        WINDOW: a token sees itself and those up to WINDOW - 1 before it; 0 for all.
        HAS_CAP: whether there is a soft cap.
        NUM_HEADS: of the query.
        GROUP: heads of the query to one of the keys.
        SIZE: of a head.
        PADDED_SIZE: the power of two at or above it, at least 16.
        BLOCK_SIZE: tokens in a block.
        BLOCK_Q: tokens in a tile of queries.
        ROWS: the power of two at or above BLOCK_Q x GROUP, at least 16.
        TILE: keys in a tile.
        NUM_SPLITS: parts that the keys are cut into.
    """
    tile, head, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    sequence, first = tl.load(tile_sequence + tile), tl.load(tile_first + tile)
    start, context = tl.load(starts + sequence), tl.load(contexts + sequence)
    num_queries = tl.load(starts + sequence + 1) - start
    row, column = tl.arange(0, ROWS), tl.arange(0, PADDED_SIZE)
    index = first + row // GROUP  # which of the sequence's queries
    is_query = (row < BLOCK_Q * GROUP) & (index < num_queries)
    position = context - num_queries + index
    token, query_head = (start + index).to(tl.int64), head * GROUP + row % GROUP
    is_mine = is_query[:, None] & (column < SIZE)[None, :]
    q_at = token[:, None] * query_stride + query_head[:, None] * SIZE + column[None, :]
    q = tl.load(query + q_at, mask=is_mine, other=0.0)

    low, high = _keys_of_split(context, num_queries, first, split, WINDOW, BLOCK_Q, TILE, NUM_SPLITS)
    top, total = tl.full([ROWS], float("-inf"), tl.float32), tl.zeros([ROWS], tl.float32)
    gathered = tl.zeros([ROWS, PADDED_SIZE], tl.float32)
    for offset in range(low, high, TILE):
        place = offset + tl.arange(0, TILE)
        there = place < high
        block = tl.load(block_tables + sequence * table_stride + place // BLOCK_SIZE, mask=there, other=0)
        slot = block.to(tl.int64) * BLOCK_SIZE + place % BLOCK_SIZE
        k_at = slot[:, None] * cache_stride + head * SIZE + column[None, :]
        inside = there[:, None] & (column < SIZE)[None, :]
        seen = is_query[:, None] & there[None, :] & (place[None, :] <= position[:, None])
        if WINDOW > 0:
            seen = seen & (position[:, None] - place[None, :] < WINDOW)
        score = _scores(q, tl.load(keys + k_at, mask=inside, other=0.0), scale, soft_cap, seen, HAS_CAP)
        v = tl.load(values + k_at, mask=inside, other=0.0)
        top, total, gathered = _absorb(top, total, gathered, score, v)

    flat = token * NUM_HEADS + query_head
    o_at = flat[:, None] * SIZE + column[None, :]
    if NUM_SPLITS == 1:
        divisor = tl.where(is_query, total, 1.0)
        tl.store(out + o_at, (gathered / divisor[:, None]).to(out.dtype.element_ty), mask=is_mine)
    else:
        part = split.to(tl.int64) * split_stride
        tl.store(out + part * SIZE + o_at, gathered, mask=is_mine)
        tl.store(part_sums + part + flat, total, mask=is_query)
        tl.store(part_tops + part + flat, top, mask=is_query)


# fmt: on


@triton.jit
def merge_splits(
    out,
    parts,
    part_sums,
    part_tops,
    split_stride,
    SIZE: tl.constexpr,
    PADDED_SIZE: tl.constexpr,
    NUM_SPLITS: tl.constexpr,
    PADDED_SPLITS: tl.constexpr,
):
    """Merge what the splits gathered, one program a token's head.

    Args:
        out: (T x NUM_HEADS, SIZE).
        parts: (NUM_SPLITS, T x NUM_HEADS, SIZE) float32, of `attend_tiles`.
        part_sums: (NUM_SPLITS, T x NUM_HEADS).
        part_tops: as the sums.
        split_stride: T x NUM_HEADS, or more.
        SIZE: of a head.
        PADDED_SIZE: the power of two at or above it.
        NUM_SPLITS: parts.
        PADDED_SPLITS: the power of two at or above them.
    """
    flat = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, PADDED_SPLITS)
    column = tl.arange(0, PADDED_SIZE)
    is_split = split < NUM_SPLITS
    at = split * split_stride + flat
    top = tl.load(part_tops + at, mask=is_split, other=float("-inf"))
    share = tl.exp2(top - tl.max(top, 0))  # 0 for a split without keys
    total = tl.sum(share * tl.load(part_sums + at, mask=is_split, other=0.0), 0)
    inside = is_split[:, None] & (column < SIZE)[None, :]
    gathered = tl.load(parts + at[:, None] * SIZE + column[None, :], mask=inside, other=0.0)
    merged = tl.sum(gathered * share[:, None], 0) / tl.where(total > 0, total, 1.0)  # a row of no sequence has none
    tl.store(out + flat * SIZE + column, merged.to(out.dtype.element_ty), mask=column < SIZE)
