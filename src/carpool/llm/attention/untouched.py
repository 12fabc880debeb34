"""Zeros that take time and memory only once they are written to: a cache is large, and full only at the worst."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch

_ALIGNMENT = 64  # bytes; a line of the processor's cache, as PyTorch's own tensors begin at


def untouched_zeros(shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """A tensor of zeros; on the CPU the system provides its pages when they are first touched.

    Args:
        shape: of it.
        dtype: of it.
        device: where it lies.
    """
    if device.type != "cpu":
        return torch.zeros(*shape, dtype=dtype, device=device)
    num_bytes = prod(shape) * dtype.itemsize
    memory = np.zeros(num_bytes + _ALIGNMENT, np.uint8)  # PyTorch's own zeros are written one by one
    start = -memory.ctypes.data % _ALIGNMENT
    return torch.from_numpy(memory[start : start + num_bytes]).view(dtype).view(*shape)
