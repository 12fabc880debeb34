"""Linear layers whose weights oneDNN has laid out once, as its matrix products read them, on the CPU.

A plain layer's weights are laid out anew on every call, which costs most for small batches. The operators are private
to PyTorch, so each layer is tried on the spot, and stays as it is where they are missing, fail or differ.
"""

from collections.abc import Callable
from typing import TypeGuard

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
        self._element_bytes = linear.weight.element_size()
        self._bias = None if bias is None else bias.detach()

    @property
    def packed_bytes(self) -> int:
        """Memory of the weights."""
        return self.in_features * self.out_features * self._element_bytes

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
    return replace_linears(encoder, packed)


def replace_linears(root: nn.Module, make: Callable[[nn.Linear], nn.Module | None]) -> int:
    """Put other layers in the place of linear ones; return how many.

    What an earlier layer's weights needed is let go before the next is made, or all would be there twice in the end.

    Args:
        root: whose linear layers give way, those in several places to one in all of them.
        make: gives what computes the same, or None where it can't: then it is not asked again.
    """
    made: dict[nn.Linear, nn.Module] = {}
    for parent, name, child in linear_places(root):
        found = made.get(child) or make(child)
        if found is None:
            break  # what the processor or PyTorch lacks for one, it lacks for all
        made[child] = found
        release(child)
        setattr(parent, name, found)
    return len(made)


def linear_places(root: nn.Module) -> list[tuple[nn.Module, str, nn.Linear]]:
    """Where linear layers stand: in which module, by which name; one that stands in two places is there twice.

    Args:
        root: of a tree of modules.
    """
    places: list[tuple[nn.Module, str, nn.Linear]] = []
    for parent in root.modules():
        # named_children() leaves out a layer in its second place.
        children = parent._modules.items()  # noqa: SLF001
        places += [(parent, name, child) for name, child in children if is_linear(child)]
    return places


def is_linear(module: object) -> TypeGuard[nn.Linear]:
    """Whether a module is a linear layer that does nothing besides.

    Args:
        module: any.
    """
    return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward


def release(linear: nn.Linear) -> None:
    """Let go of a layer's weights, which another has taken over.

    Args:
        linear: is not called again.
    """
    linear.register_parameter("weight", None)


@torch.inference_mode()
def packed(linear: nn.Linear) -> PrepackedLinear | None:
    """The layer prepacked, if it gives the same.

    Args:
        linear: on the CPU.
    """
    dtype = linear.weight.dtype
    if dtype not in _ALLOWED:
        return None
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(_TRIED_ROWS, linear.in_features, generator=generator).to(dtype)
    plain = linear(rows).float()
    try:
        found = PrepackedLinear(linear)
        difference = (found(rows).float() - plain).abs().max()
    except (RuntimeError, AttributeError):
        return None
    return found if difference <= _ALLOWED[dtype] * plain.abs().max() else None
