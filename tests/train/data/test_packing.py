"""Packed rows hold each sequence once, with its own positions, labels and mask."""

from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import DataLoader

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.packing import IGNORED, Packed, pack, packed_mask
from carpool.train.data.windows import EffectiveBatchSampler

SEQUENCES = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=9), max_size=12)


def taken_out(packed: Packed, index: int) -> tuple[list[int], list[int], list[int]]:
    """The tokens, positions and labels of a sequence."""
    its = packed.sequence_ids == index
    assert len(set(its.nonzero()[:, 0].tolist())) == 1  # in one row
    return packed.input_ids[its].tolist(), packed.position_ids[its].tolist(), packed.labels[its].tolist()


@given(SEQUENCES, st.integers(9, 20), st.booleans())
def test_each_sequence_is_as_it_was(sequences: list[list[int]], row_length: int, causal: bool) -> None:
    """It comes back from its row with positions from 0; the first token of a causal one is not learnt."""
    packed = pack(sequences, row_length=row_length, causal=causal)
    for index, sequence in enumerate(sequences):
        labels = [IGNORED, *sequence[1:]] if causal else sequence
        assert taken_out(packed, index) == (sequence, list(range(len(sequence))), labels)
    assert len(packed) == len(sequences)
    assert packed.num_valid == sum(len(sequence) - causal for sequence in sequences)


@given(SEQUENCES, st.integers(9, 20))
def test_what_is_left_over_is_filled_up(sequences: list[list[int]], row_length: int) -> None:
    """With the padding token, position 0, no sequence and nothing to learn; it is told as padding."""
    packed = pack(sequences, row_length=row_length, padding_id=777)
    over = packed.sequence_ids < 0
    assert packed.input_ids.shape[1:] == (row_length,)
    assert (packed.input_ids == 777).equal(over)
    assert not packed.position_ids[over].any()
    assert (packed.labels[over] == IGNORED).all()
    assert packed.padding.num_tokens == sum(map(len, sequences))
    assert packed.padding.num_padded_tokens == over.numel()


@given(SEQUENCES, st.integers(9, 20), st.booleans())
def test_mask_joins_tokens_of_one_sequence(sequences: list[list[int]], row_length: int, causal: bool) -> None:
    """By its definition, token by token; and every token attends to itself, so that nothing is divided by zero."""
    packed = pack(sequences, row_length=row_length, causal=causal)
    mask = packed.mask()
    assert mask.shape == (len(packed.input_ids), 1, row_length, row_length)
    for row, ids in enumerate(packed.sequence_ids.tolist()):
        expected = [[ids[i] == ids[j] and (j <= i or not causal) for j in range(row_length)] for i in range(row_length)]
        assert mask[row, 0].tolist() == expected
    assert mask.diagonal(dim1=2, dim2=3).all()


@given(SEQUENCES, st.integers(9, 20))
def test_sequences_begin_where_told(sequences: list[list[int]], row_length: int) -> None:
    """The rows' tokens, cut there, are the sequences and what is left over; the longest of all is told."""
    packed = pack(sequences, row_length=row_length)
    ends = packed.cu_seqlens.tolist()
    assert packed.cu_seqlens.dtype == torch.int32
    pieces = [packed.sequence_ids.flatten()[start:end].tolist() for start, end in pairwise(ends)]
    assert list(chain.from_iterable(pieces)) == packed.sequence_ids.flatten().tolist()
    assert all(len(set(piece)) == 1 for piece in pieces)
    named = [piece[0] for piece in pieces if piece[0] >= 0]
    assert sorted(named) == list(range(len(sequences)))
    assert packed.max_seqlen == max(map(len, pieces), default=0)


@pytest.mark.parametrize("causal", [True, False])
def test_attention_piece_by_piece_is_that_with_the_mask(causal: bool) -> None:
    """As kernels for sequences of many lengths compute it, with what they are given."""
    packed = pack([list(range(n)) for n in (5, 3, 7, 1, 4)], row_length=8, causal=causal)
    torch.manual_seed(0)
    rows, length = packed.input_ids.shape
    q, k, v = torch.randn(3, rows, 2, length, 4, dtype=torch.float64)
    whole = scaled_dot_product_attention(q, k, v, attn_mask=packed.mask())
    added = scaled_dot_product_attention(q, k, v, attn_mask=packed.mask(torch.float64))
    flat_q, flat_k, flat_v = (each.transpose(1, 2).flatten(0, 1).transpose(0, 1) for each in (q, k, v))  # (H, R T, D)
    pieces = [
        scaled_dot_product_attention(flat_q[:, a:b], flat_k[:, a:b], flat_v[:, a:b], is_causal=causal)
        for a, b in pairwise(packed.cu_seqlens.tolist())
    ]
    torch.testing.assert_close(torch.cat(pieces, 1), whole.transpose(1, 2).flatten(0, 1).transpose(0, 1))
    torch.testing.assert_close(added, whole)


def test_labels_of_ones_own_are_kept() -> None:
    """A mapping may bring them, as an instruction whose question is not learnt."""
    item = {"input_ids": np.array([5, 6, 7]), "labels": torch.tensor([1, IGNORED, 7]), "text": "of no interest"}
    assert pack([item], row_length=4).labels.tolist() == [[IGNORED, IGNORED, 7, IGNORED]]
    assert pack([item], row_length=4, causal=False).labels.tolist() == [[1, IGNORED, 7, IGNORED]]


@pytest.mark.parametrize("kind", ["uint16", "uint32", "int32", "uint8"])
def test_tokens_may_be_small_numbers(kind: str) -> None:
    """As data sets keep them on disk; in a row they are what an embedding takes."""
    packed = pack([np.array([5, 6], dtype=kind)], row_length=2)
    assert (packed.input_ids.dtype, packed.input_ids.tolist()) == (torch.int64, [[5, 6]])


def test_what_was_given_is_not_changed() -> None:
    """Neither tokens nor labels."""
    tokens, labels = torch.tensor([5, 6]), torch.tensor([5, 6])
    pack([{"input_ids": tokens, "labels": labels}, tokens], row_length=4)
    assert (tokens.tolist(), labels.tolist()) == ([5, 6], [5, 6])


def test_nothing_makes_no_row() -> None:
    """So that a rank without items can take part."""
    packed = pack([], row_length=4)
    assert packed.input_ids.shape == packed.labels.shape == (0, 4)
    assert packed.mask().shape == (0, 1, 4, 4)
    assert (packed.cu_seqlens.tolist(), packed.max_seqlen, packed.num_valid, len(packed)) == ([0], 0, 0, 0)


def test_everything_moves_together() -> None:
    """All tensors go to the device; the rest stays."""
    moved = pack([[1, 2], [3]], row_length=4).to("meta")
    assert {tensor.device.type for tensor in (moved.input_ids, moved.labels, moved.cu_seqlens)} == {"meta"}
    assert (len(moved), moved.max_seqlen, moved.causal) == (2, 2, True)


def test_a_loader_packs_micro_batches() -> None:
    """As its collate_fn, with a sampler of windows."""
    sequences = [list(range(n)) for n in (3, 5, 2, 8, 1, 4)]
    sampler = EffectiveBatchSampler(6, BatchPlan(effective_batch_size=4, micro_batch_size=2), shuffle=False)
    loader: DataLoader[Any] = DataLoader(
        sequences,  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=partial(pack, row_length=8),
    )
    assert [[batch.input_ids.shape[0] for batch in window] for window in sampler.windows(loader)] == [[1, 2], [1]]


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ([[1], []], r"sequence 1 has shape \(0,\) and type torch.float32: give whole numbers in one dimension"),
        ([[[1, 2]]], r"sequence 0 has shape \(1, 2\)"),
        ([[0.5]], r"sequence 0 has shape \(1,\) and type torch.float32"),
        ([[True]], r"sequence 0 has shape \(1,\) and type torch.bool"),
        (["text"], "sequence 0 is no sequence of whole numbers"),
        ([None], "sequence 0 is no sequence of whole numbers"),
        ([7], r"sequence 0 has shape \(\)"),
        ([[1] * 9], "sequence 0 has 9 tokens, more than a row of 8: cut it, or make the rows longer"),
        ([{"tokens": [1]}], "sequence 0 has tokens, and no input_ids: give its tokens so"),
        ([{"input_ids": [1, 2], "labels": [1]}], "sequence 0 has 2 tokens and 1 labels: give each token its own"),
        ([{"input_ids": [1, 2], "labels": ["a", "b"]}], "the labels of sequence 0 is no sequence of whole numbers"),
    ],
)
def test_what_cannot_be_packed_is_refused(sequences: list[Any], message: str) -> None:
    """The message names the sequence, and what to give."""
    with pytest.raises(ConfigError, match=message):
        pack(sequences, row_length=8)


def test_a_row_has_room() -> None:
    """Rows of no tokens hold nothing, not even nothing."""
    with pytest.raises(ConfigError, match="row_length is 0; it must be at least 1, a whole number"):
        pack([], row_length=0)


def test_mask_needs_only_ids() -> None:
    """Equal ones belong together, wherever they come from."""
    ids = torch.tensor([[3, 3, 9]])
    assert packed_mask(ids, causal=False)[0, 0].int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert packed_mask(ids, dtype=torch.float32)[0, 0, 0].tolist() == [0, *[torch.finfo(torch.float32).min] * 2]


def test_a_padded_sequence_is_refused() -> None:
    """Its padding would be learnt; a mask that leaves nothing out changes nothing."""
    padded = {"input_ids": [5, 6, 0, 0], "attention_mask": [1, 1, 0, 0]}
    with pytest.raises(
        ConfigError, match="the attention_mask of sequence 1 leaves out 2 tokens, which would be learnt"
    ):
        pack([[1, 2], padded], row_length=4)
    with pytest.raises(ConfigError, match="the attention_mask of sequence 0 is no sequence of whole numbers"):
        pack([{"input_ids": [5, 6], "attention_mask": "no"}], row_length=4)
    whole = pack([{"input_ids": [5, 6], "attention_mask": torch.ones(2)}], row_length=4)
    assert torch.equal(whole.input_ids, pack([[5, 6]], row_length=4).input_ids)


@pytest.mark.parametrize("padding_id", ["x", None, 1.5, True])
def test_a_padding_that_is_no_token_is_refused(padding_id: Any) -> None:
    """As where a tokeniser has none."""
    with pytest.raises(ConfigError, match=r"padding_id is .*; it must be a whole number, as tokenizer.pad_token_id"):
        pack([[1, 2]], row_length=4, padding_id=padding_id)


def test_a_mask_is_of_rows_and_of_a_type_that_can_be_added() -> None:
    """One row of ids alone, and whole numbers, are refused."""
    with pytest.raises(ConfigError, match=r"sequence_ids has shape \(3,\); it must be \(rows, tokens\)"):
        packed_mask(torch.tensor([0, 0, 1]))
    with pytest.raises(ConfigError, match=r"dtype is torch.int64; a mask is of torch.bool, or of the floating type"):
        packed_mask(torch.tensor([[0, 0, 1]]), dtype=torch.int64)
