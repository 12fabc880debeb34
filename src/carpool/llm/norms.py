"""One operation in the place of the six or more that an RMSNorm of transformers takes."""

from typing import Any

import torch
from torch import nn

# How far an element may lie from the module's own, relative to itself: what one more or less rounding does.
_ALLOWED = {torch.float32: 1e-5, torch.float16: 2**-9, torch.bfloat16: 2**-6}
_TRIED_ROWS = 4


class FusedRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps), times weights.

    Args:
        weight: (D,); in float32 where products are to be rounded last, as Gemma's are.
        eps: keeps the root from zero.
    """

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self._eps = eps

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Normalise each row.

        Args:
            rows: (..., D).
        """
        shape = self.weight.shape
        if rows.dtype == self.weight.dtype:
            return nn.functional.rms_norm(rows, shape, self.weight, self._eps)
        return nn.functional.rms_norm(rows.float(), shape, self.weight, self._eps).to(rows.dtype)


def fuse_norms(model: nn.Module) -> int:
    """Put fused norms in the place of a model's own, wherever they give the same within rounding; return how many.

    Args:
        model: of transformers, in evaluation mode.
    """
    num_fused = 0
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            fused = fused_norm(child) if type(child).__name__.endswith("RMSNorm") else None
            if fused is not None:
                setattr(parent, name, fused)
                num_fused += 1
    return num_fused


@torch.inference_mode()
def fused_norm(norm: Any) -> FusedRMSNorm | None:
    """The fused norm that gives what this one does, if there is one.

    Args:
        norm: an RMSNorm of transformers.
    """
    weight, eps = getattr(norm, "weight", None), getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if not isinstance(weight, torch.Tensor) or weight.dim() != 1 or weight.dtype not in _ALLOWED or eps is None:
        return None
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_TRIED_ROWS, len(weight), generator=generator).to(weight.device, weight.dtype)
    for its in (weight.detach(), 1 + weight.detach().float()):  # the latter is Gemma's
        fused = FusedRMSNorm(its.clone(), float(eps))
        if _same(fused, norm, rows):
            return fused
    return None


def _same(fused: nn.Module, norm: nn.Module, rows: torch.Tensor) -> bool:
    try:
        found, expected = fused(rows), norm(rows)
    except (RuntimeError, TypeError):
        return False
    allowed = _ALLOWED[rows.dtype]
    return found.dtype == expected.dtype and torch.allclose(found.float(), expected.float(), rtol=allowed, atol=1e-6)
