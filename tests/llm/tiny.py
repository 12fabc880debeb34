"""Small causal language models with random weights, as Hugging Face directories."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers

from carpool.models.text import sentences

VOCABULARY = 300
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # or random models say the same whatever they are asked
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GEMMA: dict[str, Any] = {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
CONFIGS: dict[str, Callable[..., Any]] = {
    "llama": lambda **more: transformers.LlamaConfig(**_SIZES | more),
    "qwen2": lambda **more: transformers.Qwen2Config(**_SIZES | more),
    "qwen3": lambda **more: transformers.Qwen3Config(**_SIZES | {"head_dim": 16} | more),
    "mistral": lambda **more: transformers.MistralConfig(**_SIZES | {"sliding_window": 8} | more),
    "gemma2": lambda **more: transformers.Gemma2Config(**_SIZES | _GEMMA | more),
    "gemma3_text": lambda **more: transformers.Gemma3TextConfig(**_SIZES | _GEMMA | more),
    "phi3": lambda **more: transformers.Phi3Config(**_SIZES | more),
}


def tiny_model(kind: str, **more: Any) -> Any:
    """A model with random weights, norms and biases included, the same ones each time.

    Args:
        kind: of CONFIGS.
        more: of its configuration.
    """
    torch.manual_seed(0)
    causal: Any = transformers.AutoModelForCausalLM
    model = causal.from_config(CONFIGS[kind](**more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


@cache
def byte_tokenizer() -> tokenizers.Tokenizer:
    """A byte-level tokenizer, trained on the sample, with three tokens of its own."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences(200), trainer)
    return tokenizer


def save(model: Any, directory: Path, *, max_shard_size: str = "5GB") -> Path:
    """Write a model and the byte-level tokenizer; return the directory.

    Args:
        model: of `tiny_model`.
        directory: where.
        max_shard_size: of a file of weights.
    """
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    byte_tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": {"content": "<s>", "special": True},
                "eos_token": "</s>",
                "chat_template": "{{ bos_token }}{{ messages[0].content }}",
            }
        )
    )
    return directory


def ids_of(model: Any, num_tokens: int = 20) -> torch.Tensor:
    """Random tokens for a model, (1, T).

    Args:
        model: any causal one.
        num_tokens: T.
    """
    return torch.randint(3, model.config.vocab_size, (1, num_tokens), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def logits_of(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What a model says of each of the tokens, (T, V) in float32.

    Args:
        model: a causal one.
        ids: (1, T).
    """
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0].float()
    return logits
