"""What lengths are accepted, and what they cost in padding."""

from typing import Any

import numpy as np
import pytest
import torch

from carpool.errors import ConfigError
from carpool.train.data.lengths import Padding, read_lengths


@pytest.mark.parametrize("given", [[3, 1], (3, 1), np.array([3, 1], dtype=np.uint16), torch.tensor([3, 1])])
def test_lengths_may_be_any_whole_numbers(given: Any) -> None:
    """Lists, arrays and tensors are all lengths."""
    assert read_lengths(given).tolist() == [3, 1]


def test_lengths_are_copied() -> None:
    """What becomes of the caller's array afterwards changes nothing."""
    mine = np.array([3, 1])
    read = read_lengths(mine)
    mine[0] = 9
    assert read.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"lengths have shape \(0,\) and type float64: give one whole number an item"),
        ([1.5, 2], r"shape \(2,\) and type float64"),
        ([True, True], r"shape \(2,\) and type bool"),
        ([[1, 2]], r"shape \(1, 2\) and type int64"),
        ([[1], [1, 2]], "lengths are not one number an item"),
        (["one"], r"shape \(1,\) and type <U3"),
        (5, r"shape \(\) and type int64"),
        (None, r"shape \(\) and type object"),
        ([2**80], "type object"),
        ([3, 0, 2], r"lengths\[1\] is 0; a length is from 1 to 1099511627776: leave empty items out"),
        ([3, 4, -2], r"lengths\[2\] is -2; a length is from 1"),
        (np.array([2**64 - 1, 1], dtype=np.uint64), r"lengths\[0\] is 18446744073709551615; a length is from 1 to"),
    ],
)
def test_what_is_no_length_is_refused(given: Any, message: str) -> None:
    """The message names the item, and what to give."""
    with pytest.raises(ConfigError, match=message):
        read_lengths(given)


def test_padding_is_what_fills_up_to_the_longest() -> None:
    """Each batch is as long as its longest item, rounded up; empty ones cost nothing."""
    batches = [np.array([3, 5]), np.array([], dtype=np.int64), np.array([9])]
    assert Padding.of(batches) == Padding(num_tokens=17, num_padded_tokens=19)
    assert Padding.of(batches, multiple_of=8) == Padding(num_tokens=17, num_padded_tokens=32)


def test_no_tokens_waste_nothing() -> None:
    """A share of nothing is zero."""
    assert Padding.of([]).waste == 0
