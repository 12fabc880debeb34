"""Load a causal language model from a local Hugging Face directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from carpool.errors import TargetError
from carpool.llm.json_object import read_object
from carpool.llm.safetensors_check import require_weights
from carpool.models.generator import causal_architecture
from carpool.models.quiet import quiet
from carpool.units import counted

_MOST_SAID = 240


def read_config(directory: Path) -> dict[str, Any]:
    """What a directory's config.json says, if it is of a model that can be run here.

    Args:
        directory: a Hugging Face one.

    Raises:
        TargetError: there is none, or it describes no causal language model, or one whose weights are quantised.
    """
    config = read_object(directory / "config.json", required=True)
    listed = config.get("architectures")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    if not names:
        raise TargetError(
            f"{directory / 'config.json'} names no architecture; it must say one such as LlamaForCausalLM"
        )
    if config.get("is_encoder_decoder"):
        raise TargetError(
            f"{directory} holds {names[0]}, an encoder with a decoder; give a decoder alone (...ForCausalLM)"
        )
    if causal_architecture(names) is None:
        raise TargetError(
            f"{directory} holds {names[0]}, which is no causal language model (...ForCausalLM); "
            f"an encoder is served as it is, by `carpool serve {directory}`"
        )
    _refuse_quantised(config, directory)
    return config


def _refuse_quantised(config: Mapping[str, Any], directory: Path) -> None:
    said = config.get("quantization_config")
    if said is None:
        return
    method = said.get("quant_method", "unnamed") if isinstance(said, dict) else said
    raise TargetError(
        f"the weights in {directory} are quantised by {str(method).upper()}, which is not read; give the unquantised "
        "weights (with weights='int8' they are quantised here), or a .gguf file"
    )


def load_directory(directory: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """A causal language model in evaluation mode, from local files only.

    Args:
        directory: with config.json and the weights.
        device: where it will compute.
        dtype: the type of its weights.

    Raises:
        TargetError: the architecture is not known, or the weights are missing, cut short, or not what config.json says.
    """
    require_weights(directory)
    from transformers import AutoConfig, AutoModelForCausalLM

    causal: Any = AutoModelForCausalLM
    try:
        with quiet():
            config = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            model, found = causal.from_pretrained(
                directory,
                config=config,
                local_files_only=True,
                trust_remote_code=False,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are told below
            )
    except Exception as error:  # whatever it says to what it does not expect
        raise TargetError(f"{directory} could not be loaded: {in_a_line(error)}") from error
    require_all_weights(found, str(directory))
    return model.eval().to(device)


def in_a_line(error: Exception) -> str:
    """What an error says, in a line that is not too long.

    Args:
        error: any.
    """
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= _MOST_SAID else f"{said[:_MOST_SAID]}..."


def require_all_weights(found: Mapping[str, Any], source: str) -> None:
    """Refuse what the library would fill with random numbers.

    Args:
        found: what it says about its loading.
        source: where the weights came from.

    Raises:
        TargetError: a tensor is missing, or has another shape than the configuration says.
    """
    missing = sorted(str(key) for key in found["missing_keys"])
    wrong = sorted(str(key[0]) for key in found["mismatched_keys"])
    for what, names in (("lack", missing), ("have other shapes than its configuration says for", wrong)):
        if names:
            raise TargetError(f"the weights of {source} {what} {counted(len(names), 'tensor')}, such as {names[0]!r}")
