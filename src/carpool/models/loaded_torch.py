"""PyTorch where somebody uses it, without importing it where nobody does."""

import sys
from typing import Any


def loaded_torch() -> Any:
    """Return PyTorch if it has been imported here, else None; while another thread imports it, wait for that.

    A look into `sys.modules` alone would find a module that is still half empty.
    """
    if "torch" not in sys.modules:
        return None
    import torch

    return torch
