"""Give a GGUF file's tensors the names, and the layout, that transformers gives them."""

from collections.abc import Iterable
from typing import Any

import gguf
import torch

from carpool.errors import TargetError
from carpool.llm.gguf_file import GGUFFile
from carpool.llm.gguf_unpacking import Unpacking
from carpool.llm.hf_directory import in_a_line, require_all_weights
from carpool.models.quiet import quiet
from carpool.units import counted

_ROPE_FREQUENCIES = "rope_freqs.weight"
# Not weights of a layer: they are read elsewhere, or follow from the configuration.
_NOT_WEIGHTS = {_ROPE_FREQUENCIES, "rope_factors_long.weight", "rope_factors_short.weight"}


def load_gguf_model(
    file: GGUFFile, config: Any, device: torch.device, dtype: torch.dtype, unpackings: list[Unpacking]
) -> Any:
    """A causal language model in evaluation mode, with a file's weights.

    Args:
        file: the weights.
        config: of transformers, as `gguf_config` makes it.
        device: where it will compute.
        dtype: the type of its weights.
        unpackings: those of this file that are under way; one is taken out and used.

    Raises:
        TargetError: the tensors are not those that the configuration wants.
    """
    from transformers import AutoModelForCausalLM

    causal: Any = AutoModelForCausalLM
    with torch.device("meta"):
        empty = causal.from_config(config)
    names = _names(file, empty.state_dict(), config)
    unpacked = (unpackings.pop() if unpackings else Unpacking(file, dtype)).result()
    weights = {parameter: _in_order(parameter, unpacked[name], file, config) for name, parameter in names.items()}
    try:
        with quiet():
            model, found = type(empty).from_pretrained(
                None,
                config=config,
                state_dict=weights,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below
            )
    except Exception as error:  # whatever it says to what it does not expect
        raise TargetError(f"{file.path} could not be loaded: {in_a_line(error)}") from error
    require_all_weights(found, str(file.path))
    _divide_frequencies(model, file)
    return model.eval().to(device)


def _names(file: GGUFFile, parameters: Iterable[str], config: Any) -> dict[str, str]:
    """For each tensor of the file, what transformers calls it."""
    known = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    places = gguf.get_tensor_name_map(known[file.architecture], config.num_hidden_layers)
    names: dict[str, str] = {}
    for parameter in parameters:
        found = places.get_name(parameter, try_suffixes=(".weight", ".bias"))
        if found is not None and found in file.tensors:
            names[found] = parameter
    left = sorted(set(file.tensors) - set(names) - _NOT_WEIGHTS)
    if left:
        raise TargetError(
            f"{file.path} has {counted(len(left), 'tensor')} that {config.model_type} has no place for, "
            f"such as {left[0]!r}"
        )
    return names


def _in_order(parameter: str, weight: torch.Tensor, file: GGUFFile, config: Any) -> torch.Tensor:
    """Undo what llama.cpp does to Llama's queries and keys: it turns neighbours, transformers turns halves."""
    if file.architecture != "llama" or not any(name in parameter for name in ("q_proj", "k_proj")):
        return weight
    heads = config.num_attention_heads if "q_proj" in parameter else config.num_key_value_heads
    halves = weight.view(heads, -1, 2, *weight.shape[1:])  # (H, D / 2, 2, ...)
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()


def _divide_frequencies(model: Any, file: GGUFFile) -> None:
    """Stretch the positions of Llama 3.1 and later, for which the file has a divisor of each frequency."""
    tensor = file.tensors.get(_ROPE_FREQUENCIES)
    if tensor is None:
        return
    divisors = torch.from_numpy(file.rows(tensor).view("<f4").ravel().copy())
    for module in model.modules():
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(module, name, None)
            if isinstance(frequencies, torch.Tensor):
                setattr(module, name, frequencies / divisors)
