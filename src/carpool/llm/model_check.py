"""Whether a model that is batched step by step still computes what transformers does: asked when it is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from carpool.errors import ConfigError
from carpool.llm.attention.hook import attending, describe
from carpool.llm.runner import StepBatch

if TYPE_CHECKING:
    from carpool.llm.attention.interface import AttentionLayer
    from carpool.llm.runner import Runner

_ALLOWED = {torch.float64: 1e-4, torch.float32: 1e-3}  # the plainest attention has its softmax in float32
_ALLOWED_ELSE = 0.05  # of types with 8 to 11 bits of precision, through all layers
_STRIDE = 7919  # a prime: tokens from all over the vocabulary


def sample_tokens(num_tokens: int, vocabulary_size: int) -> torch.Tensor:
    """Return tokens to try a model with, (num_tokens,).

    Args:
        num_tokens: how many.
        vocabulary_size: V.
    """
    return (torch.arange(num_tokens) * _STRIDE + 1) % vocabulary_size


def plain_logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Run a prompt through a model with transformers' own attention, (T, V).

    Args:
        model: whose attention is not given over yet; it is left at the plainest.
        tokens: (T,).
    """
    model.set_attn_implementation("eager")
    logits: torch.Tensor = model(input_ids=tokens.to(model.device)[None], use_cache=False).logits
    return logits[0]


class _Recorder:
    """Attends within one prompt, by the formula, and remembers what each layer is."""

    def __init__(self) -> None:
        self.layers: dict[int, AttentionLayer] = {}
        self.num_calls = 0

    def attend(
        self, module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, more: dict[str, Any]
    ) -> torch.Tensor:
        self.num_calls += 1
        self.layers[getattr(module, "layer_idx", -1)] = describe(module, query, key, value, more)
        group = query.shape[1] // key.shape[1]
        keys, values = (each.repeat_interleave(group, dim=1) for each in (key, value))
        out = torch.nn.functional.scaled_dot_product_attention(query, keys, values, is_causal=True)
        return out.transpose(1, 2)


def probe(model: Any, tokens: torch.Tensor) -> tuple[AttentionLayer, ...]:
    """Find out what a model's attention is made of, from how the model calls it.

    Args:
        model: whose attention is given over.
        tokens: (T,) a prompt.

    Returns:
        Its layers, in the order of their numbers: 0, 1 and so on.

    Raises:
        ConfigError: some of its attention does not go where it is given over to, or is of a kind that is not computed.
    """
    recorder = _Recorder()
    with attending(recorder):
        positions = torch.arange(len(tokens), device=model.device)
        model(input_ids=tokens.to(model.device)[None], position_ids=positions[None], use_cache=False)
    numbers = sorted(recorder.layers)
    num_layers = model.config.get_text_config().num_hidden_layers
    if numbers != list(range(num_layers)) or recorder.num_calls != num_layers:
        raise ConfigError(
            f"{type(model).__name__} has {num_layers} layers, but {recorder.num_calls} of them attend in the way that "
            "can be batched step by step: run a model that is attention in every layer, such as Llama, Qwen or Gemma"
        )
    return tuple(recorder.layers[number] for number in numbers)


def check_in_two_chunks(runner: Runner, name: str, tokens: torch.Tensor, expected: torch.Tensor) -> None:
    """See that a prompt in two chunks, in blocks out of order, gives what the whole prompt gave.

    Args:
        runner: whose blocks hold nothing yet.
        name: of the model.
        tokens: (T,) a prompt.
        expected: (T, V) its logits.

    Raises:
        ConfigError: it does not.
    """
    num_blocks = -(-len(tokens) // runner.block_size)
    table = np.arange(num_blocks, dtype=np.int32)[::-1][None]
    half = (len(tokens) + 1) // 2
    pieces = [_run(runner, tokens, table, *bounds) for bounds in ((0, half), (half, len(tokens)))]
    found, wanted = torch.cat(pieces).double(), expected.double()
    lengths = wanted.norm(dim=1)
    apart = (found - wanted).norm(dim=1) / lengths.clamp_min(lengths.max() * 1e-3)
    # The median of each chunk: a few bits of rounding put single tokens far off, a fault most of a chunk.
    difference = max(float(chunk.median()) for chunk in (apart[:half], apart[half:]))
    allowed = _ALLOWED.get(expected.dtype, _ALLOWED_ELSE)
    if not difference <= allowed:
        raise ConfigError(
            f"{name} can't be batched step by step: in two chunks its logits lie {difference:.2g} (relative) from "
            f"those of the whole prompt, and {allowed:g} is allowed; something in it beside attention looks at other "
            "tokens: run another model"
        )


def _run(runner: Runner, tokens: torch.Tensor, table: np.ndarray, start: int, end: int) -> torch.Tensor:
    positions = np.arange(start, end, dtype=np.int64)
    return runner.run(
        StepBatch(
            token_ids=tokens[start:end].numpy(),
            positions=positions,
            starts=np.array([0, end - start], np.int32),
            contexts=np.array([end], np.int32),
            block_tables=table,
            rows=np.arange(end - start, dtype=np.int64),
        )
    )
