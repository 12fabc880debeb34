"""Linear layers whose weights oneDNN has laid out once, as its matrix products read them, on the CPU.

A plain layer's weights are laid out anew on every call, which costs most for small batches. The operators are private
to PyTorch, so each layer is tried on the spot, and stays as it is where they are missing, fail or differ.
"""

import torch
from torch import nn

_TRIED_ROWS = 4
_ALLOWED = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""How far outputs may lie apart, relative to the largest: a few roundings."""


class PrepackedLinear(nn.Module):
    """A linear layer in oneDNN's own layout; for inference only.

    Args:
        linear: whose weights are taken over; it keeps none itself if it is then let go.

    Raises:
        RuntimeError: oneDNN has no such layout for this type on this processor.
        AttributeError: this PyTorch has not the operators.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        operators = torch.ops.mkldnn
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._multiply = operators._linear_pointwise  # noqa: SLF001 - there is no public way to it
        self._weight = operators._reorder_linear_weight(linear.weight.detach().contiguous(), None)  # noqa: SLF001
        bias: torch.Tensor | None = linear.bias
        self._bias = None if bias is None else bias.detach()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply.

        Args:
            rows: (..., in_features).
        """
        product: torch.Tensor = self._multiply(rows, self._weight, self._bias, "none", [], "")
        return product


def prepack(encoder: nn.Module) -> int:
    """Put prepacked layers in the place of an encoder's linear ones, wherever that works; return how many.

    Args:
        encoder: on the CPU, in evaluation mode.
    """
    places: list[tuple[nn.Module, str, nn.Linear]] = []
    for parent in encoder.modules():
        # named_children() leaves out a layer in its second place.
        children = parent._modules.items()  # noqa: SLF001
        places += [(parent, name, child) for name, child in children if isinstance(child, nn.Linear)]
    packed: dict[nn.Linear, PrepackedLinear] = {}
    for parent, name, child in places:
        found = packed.get(child) or _packed(child)
        if found is None:
            break  # what the processor or PyTorch lacks for one, it lacks for all
        packed[child] = found
        child.register_parameter("weight", None)  # or all weights would be there twice until the last one is done
        setattr(parent, name, found)
    return len(packed)


@torch.inference_mode()
def _packed(linear: nn.Linear) -> PrepackedLinear | None:
    """Return the layer prepacked, if it gives the same."""
    dtype = linear.weight.dtype
    if dtype not in _ALLOWED or type(linear).forward is not nn.Linear.forward:
        return None
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_TRIED_ROWS, linear.in_features, generator=generator).to(dtype)
    plain = linear(rows).float()
    try:
        packed = PrepackedLinear(linear)
        difference = (packed(rows).float() - plain).abs().max()
    except (RuntimeError, AttributeError):
        return None
    return packed if difference <= _ALLOWED[dtype] * plain.abs().max() else None
