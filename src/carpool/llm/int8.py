"""Linear layers whose weights are rounded to 8 bits, with a scale for each output channel."""

import torch
from torch import nn

_MOST = 127
_FEW_ROWS = 4
"""Up to so many rows, reading the weights takes longer than multiplying them: then they are read as they are."""


class Int8Linear(nn.Module):
    """A linear layer with 8-bit weights, which become the rows' type in the product.

    ``w[o, i] = round(scale[o] q[o, i])`` with ``scale[o] = max_i |w[o, i]| / 127``.

    Args:
        linear: whose weights are rounded; it keeps none itself if it is then let go.
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        rounded, scale = round_to_int8(linear.weight.detach())
        self.register_buffer("weight", rounded)
        self.register_buffer("scale", scale.to(linear.weight.dtype))
        bias: torch.Tensor | None = linear.bias
        self.register_buffer("bias", None if bias is None else bias.detach())
        self._reads_int8 = _can_read_int8(self)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply.

        Args:
            rows: (..., in_features).
        """
        if self._reads_int8 and rows.numel() <= _FEW_ROWS * self.in_features:
            product = _multiply_int8(self, rows)
        else:
            product = nn.functional.linear(rows, self.weight.to(rows.dtype)) * self.scale
        return product if self.bias is None else product + self.bias


def round_to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a matrix, row by row.

    Args:
        weight: (O, I).

    Returns:
        (O, I) int8, and (O,) float32: what each row of them is to be multiplied by.
    """
    numbers = weight.float()
    scale = numbers.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / _MOST
    return (numbers / scale[:, None]).round_().clamp_(-_MOST, _MOST).to(torch.int8), scale


def _multiply_int8(linear: Int8Linear, rows: torch.Tensor) -> torch.Tensor:
    flat = rows.reshape(-1, linear.in_features)
    product: torch.Tensor = torch._weight_int8pack_mm(flat, linear.weight, linear.scale)  # noqa: SLF001 - no public way
    return product.view(*rows.shape[:-1], linear.out_features)


@torch.inference_mode()
def _can_read_int8(linear: Int8Linear) -> bool:
    """Whether PyTorch multiplies by 8-bit weights here, and gives what the plain way does."""
    dtype = linear.scale.dtype
    if linear.weight.device.type != "cpu" or dtype not in (torch.bfloat16, torch.float32):
        return False
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(1, linear.in_features, generator=generator).to(dtype)
    plain = (nn.functional.linear(rows, linear.weight.to(dtype)) * linear.scale).float()
    try:
        found = _multiply_int8(linear, rows).float()
    except (RuntimeError, AttributeError):
        return False
    return bool((found - plain).abs().max() <= 2e-2 * plain.abs().max())
