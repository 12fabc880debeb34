"""The most likely token of each row."""

import pytest
import torch

from carpool.llm.likeliest import likeliest


@pytest.mark.parametrize("size", [3, 256, 300, 49152])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_is_the_first_of_the_largest(size: int, dtype: torch.dtype) -> None:
    """As argmax says, also where many values are equal, and where the largest lies in the last few."""
    torch.manual_seed(0)
    logits = torch.randint(0, 50, (40, size)).to(dtype)
    logits[3, -1] = 60
    logits[4, [0, -1]] = 60
    expected = [row.index(max(row)) for row in logits.tolist()]
    assert likeliest(logits).tolist() == expected
