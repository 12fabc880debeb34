"""Tensors, tuples and dicts of them: to a device, and back to numpy."""

import numpy as np
import torch
from numpy.typing import NDArray


def to_numpy(tensor: torch.Tensor) -> NDArray[np.generic]:
    """The values of a tensor on the host; bfloat16, which numpy lacks, becomes float32.

    Args:
        tensor: any shape, on any device.
    """
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array: NDArray[np.generic] = tensor.detach().cpu().numpy()
    return array
