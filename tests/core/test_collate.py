"""Making rectangular batches and taking them apart again."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from carpool.core.collate import length_mask, pad, round_up, split_padded

token_ids = st.lists(st.integers(0, 30_000), min_size=1, max_size=20)


@given(st.lists(token_ids, min_size=1, max_size=8), st.integers(0, 10), st.integers(0, 3))
def test_collate_then_split_is_identity(sequences: list[list[int]], more_length: int, more_rows: int) -> None:
    """Whatever the padding, every sequence comes back as it was."""
    lengths = [len(sequence) for sequence in sequences]
    batch = pad(sequences, value=-1, length=max(lengths) + more_length, rows=len(sequences) + more_rows)
    assert [row.tolist() for row in split_padded(batch, lengths)] == sequences


@given(st.lists(token_ids, min_size=1, max_size=8))
def test_pad_agrees_with_pytorch(sequences: list[list[int]]) -> None:
    """The same rectangle as `torch.nn.utils.rnn.pad_sequence`."""
    tensors = [torch.tensor(sequence) for sequence in sequences]
    expected = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=7)
    assert np.array_equal(pad(sequences, value=7), expected.numpy())


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_trailing_axes_are_kept(lengths: list[int], data: st.DataObject) -> None:
    """Frames of features are padded along time only, as by PyTorch."""
    frames = [
        data.draw(arrays.arrays(np.float32, (length, 3), elements=st.floats(-1, 1, width=32))) for length in lengths
    ]
    batch = pad(frames)
    expected = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(frame) for frame in frames], batch_first=True)
    assert np.array_equal(batch, expected.numpy())
    assert batch.dtype == np.float32


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_mask_is_true_where_tokens_are(lengths: list[int]) -> None:
    """As padding ones with zeros."""
    ones = [[True] * length for length in lengths]
    assert np.array_equal(length_mask(lengths, max(lengths)), pad(ones))


def test_empty_sequence_does_not_change_the_type() -> None:
    """Token ids stay whole numbers when one text has none."""
    batch = pad([[1, 2], []])
    assert np.issubdtype(batch.dtype, np.integer)
    assert batch.tolist() == [[1, 2], [0, 0]]


@pytest.mark.parametrize(
    ("sequences", "limits", "message"),
    [
        ([], {}, "pad was given no sequences; a batch has at least one"),
        ([[1, 2, 3]], {"length": 2}, "1 sequences of up to 3 do not fit into 1 rows of 2"),
        ([[1], [2]], {"rows": 1}, "2 sequences of up to 1 do not fit into 1 rows of 1"),
        (
            [np.ones((2, 3)), np.ones((2, 1))],
            {},
            "the sequences' trailing axes differ: [(1,), (3,)]; only the first may",
        ),
    ],
)
def test_what_does_not_fit_is_refused(sequences: list[list[int]], limits: dict[str, int], message: str) -> None:
    """Nothing is cut off or spread out silently."""
    with pytest.raises(ValueError, match=re.escape(message)):
        pad(sequences, length=limits.get("length"), rows=limits.get("rows"))


@given(st.integers(1, 200), st.lists(st.integers(1, 100), unique=True).map(sorted))
def test_round_up_gives_the_smallest_bucket_that_holds_it(value: int, buckets: list[int]) -> None:
    """Beyond the last bucket the value is its own."""
    assert round_up(value, buckets) == min((bucket for bucket in buckets if bucket >= value), default=value)
