"""Write small models as GGUF files, as llama.cpp's converter does: with the `gguf` package's writer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import quantize
from numpy.typing import NDArray

from tests.llm.tiny import byte_tokenizer

ARCHITECTURES = {"gemma3_text": "gemma3", "mistral": "llama"}
F32 = gguf.GGMLQuantizationType.F32


def write_gguf(
    model: Any,
    path: Path,
    *,
    kind: gguf.GGMLQuantizationType = F32,
    metadata: Mapping[str, Any] | None = None,
    extra: Mapping[str, NDArray[np.float32]] | None = None,
    vocabulary: bool = True,
) -> Path:
    """Write a model with the byte-level tokenizer.

    Args:
        model: of `tiny_model`.
        path: where.
        kind: how matrices are stored.
        metadata: keys to add, or to write in place of others; None for one leaves it out.
        extra: tensors to add.
        vocabulary: whether the tokenizer is written.
    """
    config = model.config
    architecture = ARCHITECTURES.get(config.model_type, config.model_type)
    writer = gguf.GGUFWriter(path, architecture)
    said = _metadata(config, architecture) | (_vocabulary() if vocabulary else {}) | dict(metadata or {})
    for key, value in said.items():
        _add(writer, key, value)
    for name, numbers in _tensors(model, architecture).items():
        _add_tensor(writer, name, numbers, kind if numbers.ndim > 1 else F32)
    for name, more in (extra or {}).items():
        writer.add_tensor(name, more)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(config: Any, architecture: str) -> dict[str, Any]:
    own = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "attention.key_length": getattr(config, "head_dim", None),
        "attention.value_length": getattr(config, "head_dim", None),
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "rope.freq_base": _theta(config),
    }
    return {"general.name": "Tiny"} | {f"{architecture}.{key}": value for key, value in own.items()}


def _theta(config: Any) -> float:
    said = config.rope_parameters
    return float(said.get("full_attention", said)["rope_theta"])


def _vocabulary() -> dict[str, Any]:
    said = json.loads(byte_tokenizer().to_str())["model"]
    tokens = sorted(said["vocab"], key=said["vocab"].__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if number < 3 else 1 for number in range(len(tokens))],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in said["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 0,
    }


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    adders: dict[type, Any] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    if value is not None:
        adders[type(value)](key, value)


def _tensors(model: Any, architecture: str) -> dict[str, NDArray[np.float32]]:
    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    places = gguf.get_tensor_name_map(numbers[architecture], model.config.num_hidden_layers)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        found = places.get_name(name, try_suffixes=(".weight", ".bias"))
        assert found is not None, name
        tensors[found] = _converted(name, weight, model.config, architecture).float().contiguous().numpy()
    return tensors


def _converted(name: str, weight: torch.Tensor, config: Any, architecture: str) -> torch.Tensor:
    """What llama.cpp's converter makes of a tensor."""
    if architecture.startswith("gemma") and name.endswith("norm.weight"):
        return weight + 1
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return weight.view(heads, 2, -1, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)
    return weight


def _add_tensor(
    writer: gguf.GGUFWriter, name: str, numbers: NDArray[np.float32], kind: gguf.GGMLQuantizationType
) -> None:
    if kind == F32:
        writer.add_tensor(name, numbers)
        return
    try:
        stored = quantize(numbers, kind)
    except NotImplementedError:  # the package only reads the K-quants
        stored = _random_blocks(numbers.shape, kind)
    writer.add_tensor(name, stored, raw_dtype=kind)


# Where in a block its scales lie as halves: any other bytes may be random.
_HALVES = {
    gguf.GGMLQuantizationType.Q2_K: (80, 82),
    gguf.GGMLQuantizationType.Q3_K: (108,),
    gguf.GGMLQuantizationType.Q4_K: (0, 2),
    gguf.GGMLQuantizationType.Q5_K: (0, 2),
    gguf.GGMLQuantizationType.Q6_K: (208,),
}


def _random_blocks(shape: tuple[int, ...], kind: gguf.GGMLQuantizationType) -> NDArray[np.uint8]:
    block, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (*shape[:-1], shape[-1] // block, num_bytes), dtype=np.uint8)
    for place in _HALVES[kind]:
        scales = rng.uniform(1e-5, 1e-4, blocks.shape[:-1]).astype("<f2")
        blocks[..., place : place + 2] = scales[..., None].view(np.uint8)
    return blocks.reshape(*shape[:-1], -1)
