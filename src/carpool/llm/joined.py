"""Several linear layers on the same rows as one product, without a change of the model that calls them one by one."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import nn

from carpool.models.prepack import release

# As transformers' decoders name the layers that they call on one tensor after each other.
FAMILIES = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class JoinedProduct:
    """Computes the results of all parts when one is asked for, and hands out the others as they are.

    Whether rows are the same is told by their being one object, which is kept until each part has had its own: nothing
    rests on how a model calls them but its speed. For one thread at a time.

    Args:
        whole: the layer of all weights, one after the other.
        widths: outputs of each part.
    """

    def __init__(self, whole: nn.Module, widths: Sequence[int]) -> None:
        self.whole = whole
        self._widths = tuple(widths)
        self._rows: torch.Tensor | None = None
        self._waiting: dict[int, torch.Tensor] = {}
        self.num_products = 0

    def part(self, rows: torch.Tensor, number: int) -> torch.Tensor:
        """The result of a part.

        Args:
            rows: (..., in_features).
            number: of the part.
        """
        if rows is not self._rows or number not in self._waiting:
            self._rows = rows
            self._waiting = dict(enumerate(self.whole(rows).split(self._widths, dim=-1)))
            self.num_products += 1
        found = self._waiting.pop(number)
        if not self._waiting:
            self._rows = None
        return found


class JoinedPart(nn.Module):
    """Stands in the place of one of the layers.

    Args:
        joined: computes it with others.
        number: which of them it is.
        linear: whose place it takes.
    """

    def __init__(self, joined: JoinedProduct, number: int, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self._joined = joined
        self._number = number
        if number == 0:  # once in the tree of modules
            self.whole = joined.whole

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Multiply, or hand out what another part has computed.

        Args:
            rows: (..., in_features).
        """
        return self._joined.part(rows, self._number)


def join_linears(root: nn.Module, make: Callable[[nn.Linear], nn.Module | None]) -> int:
    """Put joined products in the place of the layers of families; return how many products there are now.

    Args:
        root: of a tree of modules.
        make: gives the layer that computes a product, or None where it can't: then it is not asked again.
    """
    num_products = 0
    for parent, names in product(list(root.modules()), FAMILIES):
        linears = _family(parent, names)
        if not linears:
            continue
        whole = make(_end_to_end(linears))
        if whole is None:
            break  # what the processor or PyTorch lacks for one, it lacks for all
        joined = JoinedProduct(whole, [linear.out_features for linear in linears])
        for number, (name, linear) in enumerate(zip(names, linears, strict=True)):
            setattr(parent, name, JoinedPart(joined, number, linear))
            release(linear)
        num_products += 1
    return num_products


def _family(parent: nn.Module, names: Sequence[str]) -> list[nn.Linear]:
    """The layers of these names; none where one is missing, or is of another kind."""
    layers = [getattr(parent, name, None) for name in names]
    linears = [layer for layer in layers if type(layer) is nn.Linear]
    alike = len({(each.in_features, each.weight.dtype) for each in linears}) == 1
    return linears if alike and len(linears) == len(names) else []


@torch.inference_mode()
def _end_to_end(linears: Sequence[nn.Linear]) -> nn.Linear:
    """One layer with the outputs of several."""
    weight = torch.cat([linear.weight.detach() for linear in linears])
    known: list[torch.Tensor | None] = [linear.bias for linear in linears]
    has_bias = any(bias is not None for bias in known)
    whole = nn.Linear(weight.shape[1], len(weight), bias=has_bias, device="meta")
    whole.weight = nn.Parameter(weight, requires_grad=False)
    if has_bias:
        widths = [linear.out_features for linear in linears]
        biases = [weight.new_zeros(width) if bias is None else bias for width, bias in zip(widths, known, strict=True)]
        whole.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
    return whole
