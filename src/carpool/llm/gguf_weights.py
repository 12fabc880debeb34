"""Dequantise a GGUF file's tensors under the names, and in the layout, that transformers gives them."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gguf
import torch
from gguf.quants import dequantize

from carpool.errors import TargetError
from carpool.llm.gguf_file import GGUFFile, GGUFTensor
from carpool.llm.hf_directory import in_a_line, require_all_weights
from carpool.models.quiet import quiet
from carpool.models.threads import num_cores
from carpool.units import counted

_PIECE = 2**18
"""Numbers that are dequantised at a time: what is needed for them stays in the cache."""
_ROPE_FREQUENCIES = "rope_freqs.weight"
# Not weights of a layer: they are read elsewhere, or follow from the configuration.
_NOT_WEIGHTS = {_ROPE_FREQUENCIES, "rope_factors_long.weight", "rope_factors_short.weight"}


def load_gguf_model(file: GGUFFile, config: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A causal language model in evaluation mode, with a file's weights.

    Args:
        file: the weights.
        config: of transformers, as `gguf_config` makes it.
        device: where it will compute.
        dtype: the type of its weights.

    Raises:
        TargetError: the tensors are not those that the configuration wants.
    """
    from transformers import AutoModelForCausalLM

    causal: Any = AutoModelForCausalLM
    with torch.device("meta"):
        empty = causal.from_config(config)
    names = _names(file, empty.state_dict(), config)
    weights = dequantised(file, names, config, dtype)
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


def dequantised(file: GGUFFile, names: Mapping[str, str], config: Any, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A file's tensors as plain numbers, by transformers' names.

    Args:
        file: the tensors.
        names: what transformers calls each.
        config: of the model.
        dtype: the type to give them.
    """
    weights: dict[str, torch.Tensor] = {}
    with ThreadPoolExecutor(num_cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        pieces: list[Any] = []
        for name, parameter in names.items():
            tensor = file.tensors[name]
            filled = weights[parameter] = torch.empty(tensor.shape, dtype=dtype)
            pieces += [pool.submit(_fill, file, tensor, filled, start, dtype) for start in _starts(tensor)]
        try:
            for piece in pieces:
                piece.result()
        except NotImplementedError as error:
            kinds = sorted({file.tensors[name].kind.name for name in names})
            raise TargetError(
                f"{file.path} stores numbers as one of {', '.join(kinds)}, which the installed gguf does not unpack: "
                f"{in_a_line(error)}. Run `pip install --upgrade gguf`, or give another file"
            ) from error
    return {parameter: _in_order(parameter, weight, file, config) for parameter, weight in weights.items()}


def _rows_at_once(tensor: GGUFTensor) -> int:
    return max(1, _PIECE // tensor.shape[-1])


def _starts(tensor: GGUFTensor) -> range:
    num_rows = 1 if len(tensor.shape) == 1 else tensor.shape[0]
    return range(0, num_rows, _rows_at_once(tensor))


def _fill(file: GGUFFile, tensor: GGUFTensor, filled: torch.Tensor, start: int, dtype: torch.dtype) -> None:
    """Dequantise some rows."""
    rows = slice(start, start + _rows_at_once(tensor))
    plain = dequantize(file.rows(tensor)[rows], tensor.kind)
    numbers = torch.from_numpy(plain if plain.flags.writeable else plain.copy())
    if _is_shifted_norm(file, tensor.name):
        numbers = numbers - 1
    filled.view(-1, tensor.shape[-1])[rows] = numbers.to(dtype)


def _is_shifted_norm(file: GGUFFile, name: str) -> bool:
    """Gemma multiplies by one more than its weights; the file has the sum."""
    return file.architecture.startswith("gemma") and name.endswith("norm.weight")


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
