"""Any mixture of chunks and single tokens, in blocks anywhere, gives what transformers gives for the whole text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

from carpool.llm.make_runner import make_runner
from tests.llm.steps import feed_all, loaded, sequences
from tests.llm.tiny import CONFIGS, VOCABULARY, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.llm.transformers_runner import TransformersRunner

_MORE: dict[str, Callable[[], Any]] = {
    "phi": lambda: transformers.PhiConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ),
    "gpt2": lambda: transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4),
    "olmo2": lambda: transformers.Olmo2Config(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ),
    "cohere": lambda: transformers.CohereConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    ),
}


def _model(kind: str) -> Any:
    if kind in CONFIGS:
        return tiny_model(kind).double()
    torch.manual_seed(0)
    causal: Any = transformers.AutoModelForCausalLM
    return causal.from_config(_MORE[kind]()).eval().double()


def _runner(model: Any, *, block_size: int = 4, num_blocks: int = 64) -> TransformersRunner:
    per_token = 2 * 2 * 4 * 32 * 8  # of any of these models, at most
    return make_runner(
        loaded(model), block_size=block_size, kv_memory_bytes=per_token * block_size * num_blocks, most_tokens=256
    )


def _oracle(model: Any) -> str:
    """Which of transformers' own attentions to believe: one knows soft caps, the other a softmax in float64."""
    return "eager" if getattr(model.config, "attn_logit_softcapping", None) else "sdpa"


def _plain(model: Any, tokens: list[int]) -> torch.Tensor:
    """What transformers says of a text, with a model of its own that nothing was replaced in."""
    model.set_attn_implementation(_oracle(model))
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    return found


@pytest.mark.parametrize("kind", [*CONFIGS, *_MORE])
def test_any_mixture_gives_the_logits_of_the_whole_text(kind: str) -> None:
    """Chunks, single tokens and their order change nothing, in float64, beyond its last digits."""
    runner, plain, rng = _runner(_model(kind)), _model(kind), np.random.default_rng(1)
    feds = sequences(runner, [1, 3, 17, 33, 26, 8], rng, vocabulary_size=VOCABULARY)
    feed_all(runner, feds, rng)
    for fed in feds:
        expected = _plain(plain, fed.tokens)
        allowed = 1e-9 if _oracle(plain) == "sdpa" else 1e-6
        assert (fed.results - expected).abs().max() <= allowed * expected.abs().max()
