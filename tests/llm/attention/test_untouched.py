"""Zeros that take no time: like any others, but for when their memory is taken."""

import resource

import pytest
import torch

from carpool.llm.attention.untouched import untouched_zeros

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_they_are_zeros_that_can_be_written(dtype: torch.dtype) -> None:
    """Of any type, aligned as PyTorch's own."""
    zeros = untouched_zeros((3, 2, 5), dtype=dtype, device=CPU)
    assert torch.equal(zeros, torch.zeros(3, 2, 5, dtype=dtype))
    assert zeros.data_ptr() % 64 == 0
    zeros[1] = 1
    assert zeros.sum() == 10
    assert untouched_zeros((0, 4), dtype=dtype, device=CPU).shape == (0, 4)


def test_they_take_memory_when_they_are_touched() -> None:
    """Four gigabytes of them, of which one page is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    zeros = untouched_zeros((2**30,), dtype=torch.float32, device=CPU)
    zeros[2**29] = 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
