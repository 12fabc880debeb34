"""Make transformers' configuration out of what a GGUF file says about its model."""

from collections.abc import Mapping
from typing import Any

from carpool.errors import TargetError
from carpool.llm.gguf_file import GGUFFile
from carpool.llm.hf_directory import in_a_line

_MODEL_TYPES = {
    "llama": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "phi3": "phi3",
}
_NAMES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_SPECIAL = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
# These two scale their scores by the width of a head as if all had equal parts of the hidden size; other sizes by the
# head's own. The file does not say which it is: their number of layers tells them.
_SCALED_BY_SHARE = {("gemma2", 46), ("gemma3", 62)}


def gguf_config(file: GGUFFile) -> Any:
    """The configuration of the model in a file.

    Args:
        file: whose metadata tell.

    Raises:
        TargetError: the architecture is not known here, or the file leaves out or adds what is not understood.
    """
    architecture = file.architecture
    if architecture not in _MODEL_TYPES:
        raise TargetError(
            f"{file.path} holds the architecture {architecture!r}; GGUF files are read of {', '.join(_MODEL_TYPES)}. "
            "Give the model's Hugging Face directory instead"
        )
    said = {key.removeprefix(f"{architecture}."): value for key, value in file.metadata.items()}
    if said.get("expert_count"):
        raise TargetError(f"{file.path} holds a mixture of experts, which is not read from GGUF; give its directory")
    try:
        values = _common(file, said) | _own(architecture, said) | _biases(file)
        values |= _rope(file, said, values)
    except KeyError as error:
        raise TargetError(
            f"{file.path} does not say {architecture}.{error.args[0]}, without which it can't be run"
        ) from error
    except (TypeError, ValueError) as error:
        raise TargetError(f"{file.path} says of its model what is not understood: {error}") from error
    return _make(file, _MODEL_TYPES[architecture], values)


def _make(file: GGUFFile, model_type: str, values: Mapping[str, Any]) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(model_type, **values)
    except Exception as error:  # whatever it says to what it does not expect
        raise TargetError(f"{file.path} describes no model that can be made: {in_a_line(error)}") from error


def _common(file: GGUFFile, said: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {name: _number(said[key]) for key, name in _NAMES.items()}
    heads = values["num_attention_heads"]
    size = said.get("attention.key_length", values["hidden_size"] // heads)
    if said.get("attention.value_length", size) != size:
        raise TargetError(f"{file.path} has values of another width than its keys, which is not read from GGUF")
    vocabulary = file.tensors.get("token_embd.weight")
    if vocabulary is None:
        raise TargetError(f"{file.path} has no tensor token_embd.weight; it is not a whole language model")
    return values | {
        "num_key_value_heads": _number(said.get("attention.head_count_kv", heads)),
        "head_dim": int(size),
        "rms_norm_eps": float(said["attention.layer_norm_rms_epsilon"]),
        "vocab_size": vocabulary.shape[0],
        "tie_word_embeddings": "output.weight" not in file.tensors,
        **{name: said.get(key) for name, key in _SPECIAL.items()},
    }


def _number(value: Any) -> int:
    """One number for all layers, which some files say once for each."""
    if isinstance(value, int):
        return value
    if len(set(value.tolist())) != 1:
        raise ValueError(f"layers of different sizes: {value.tolist()}")
    return int(value[0])


def _own(architecture: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What only this architecture has."""
    values: dict[str, Any] = {}
    window = said.get("attention.sliding_window")
    if window and architecture != "qwen2":
        values["sliding_window"] = int(window)
    if architecture in ("gemma2", "gemma3"):
        by_share = (architecture, int(said["block_count"])) in _SCALED_BY_SHARE
        share = int(said["embedding_length"]) // int(said["attention.head_count"])
        values["query_pre_attn_scalar"] = share if by_share else int(said["attention.key_length"])
        values["attn_logit_softcapping"] = said.get("attn_logit_softcapping")
        values["final_logit_softcapping"] = said.get("final_logit_softcapping")
    return values


def _biases(file: GGUFFile) -> dict[str, Any]:
    """Whether the attention of an architecture that may have biases has them."""
    return {"attention_bias": True} if "blk.0.attn_output.bias" in file.tensors else {}


def _rope(file: GGUFFile, said: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """How positions turn: the base, the part of a head that turns, and how the base is stretched."""
    turning = int(said.get("rope.dimension_count", values["head_dim"]))
    rope: dict[str, Any] = {"rope_theta": float(said.get("rope.freq_base", 10000.0))}
    if turning < values["head_dim"]:
        rope["partial_rotary_factor"] = turning / values["head_dim"]
    scaling = _rope_scaling(file, said)
    return rope | ({"rope_scaling": scaling} if scaling else {}) | _long_context(file, said)


def _rope_scaling(file: GGUFFile, said: Mapping[str, Any]) -> dict[str, Any] | None:
    kind, factor = said.get("rope.scaling.type", "none"), float(said.get("rope.scaling.factor", 1.0))
    if kind == "none" or factor == 1.0 or kind == "longrope":  # the last is told by its tensors
        return None
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        original = int(said["rope.scaling.original_context_length"])
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise TargetError(f"{file.path} stretches its positions by {kind!r}; read are linear, yarn and longrope")


def _long_context(file: GGUFFile, said: Mapping[str, Any]) -> dict[str, Any]:
    """Factors of each frequency, for short and for long texts."""
    factors = {kind: file.tensors.get(f"rope_factors_{kind}.weight") for kind in ("short", "long")}
    if factors["short"] is None or factors["long"] is None:
        return {}
    lists = {f"{kind}_factor": file.rows(each).view("<f4").ravel().tolist() for kind, each in factors.items() if each}
    original = int(said["rope.scaling.original_context_length"])
    return {
        "rope_scaling": {"rope_type": "longrope", **lists},
        "original_max_position_embeddings": original,
    }
