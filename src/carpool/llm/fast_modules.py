"""Put faster modules in the place of transformers' own, wherever they compute the same within rounding.

Each is tried on the spot, and the model's own stays where it fails or differs: none of this is needed to be right.
"""

from typing import Any

from torch import nn

from carpool.llm.int8 import Int8Linear
from carpool.llm.joined import join_linears
from carpool.llm.norms import fuse_norms
from carpool.models.prepack import packed, replace_linears
from carpool.units import counted, format_bytes


def make_fast(model: Any, *, weights: str = "as_is") -> tuple[str, ...]:
    """Replace a model's layers by faster, or by smaller, ones.

    On the CPU linear layers are laid out once as oneDNN reads them, those on the same rows as one product; norms
    become one operation anywhere.

    Args:
        model: of transformers, in evaluation mode, on its device.
        weights: ``"as_is"``, or ``"int8"`` to round those of linear layers.

    Returns:
        What was done, a sentence each.
    """
    tied = _tied_output(model)
    notes = _int8(model) if weights == "int8" else _prepacked(model) if model.device.type == "cpu" else []
    if tied is not None and not isinstance(model.get_output_embeddings(), nn.Linear):
        size = tied.numel() * (1 if weights == "int8" else tied.element_size())
        notes.append(
            f"the output projection has weights of its own now, {format_bytes(size)}, apart from the embedding's"
        )
    num_norms = fuse_norms(model)
    return (*notes, *([f"{counted(num_norms, 'norm')} as one operation each"] if num_norms else []))


def _prepacked(model: Any) -> list[str]:
    num_joined = join_linears(model, packed)
    num_more = replace_linears(model, packed)
    if not num_joined + num_more:
        return ["linear layers as they are: oneDNN lays out no such weights here"]
    num = num_joined + num_more
    return [f"{counted(num, 'linear product')} laid out once for oneDNN, {num_joined} of them of several layers"]


def _int8(model: Any) -> list[str]:
    num = join_linears(model, Int8Linear) + replace_linears(model, Int8Linear)
    return [f"{counted(num, 'linear product')} with 8-bit weights"]


def _tied_output(model: Any) -> Any:
    """The output projection's weights, where they are the embedding's."""
    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    weight = getattr(output, "weight", None)
    return weight if weight is not None and weight is getattr(embedding, "weight", None) else None
