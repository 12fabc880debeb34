"""Any mixture of chunks and single tokens, in blocks anywhere, gives what transformers gives for the whole text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers

from carpool.llm.make_runner import make_runner
from tests.llm.steps import Fed, feed, feed_all, loaded, sequences, single_sequence
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


def test_tokens_and_vectors_are_those_of_the_logits() -> None:
    """The most likely tokens, and the last layer's vectors, of the same step."""
    runner, plain, rng = _runner(_model("llama")), _model("llama"), np.random.default_rng(4)
    (fed,) = sequences(runner, [11], rng, vocabulary_size=VOCABULARY)
    expected = _plain(plain, fed.tokens)
    feed(runner, [(fed, 11)], want="tokens")
    assert fed.results.tolist() == expected.argmax(-1).tolist()
    again = Fed(fed.tokens, fed.blocks)
    feed(runner, [(again, 11)], want="hidden")
    with torch.inference_mode():
        hidden = plain.model(input_ids=torch.tensor([fed.tokens]), use_cache=False).last_hidden_state[0]
    assert torch.allclose(again.results, hidden, atol=1e-6)


def test_sequences_that_share_blocks_say_what_they_say_alone() -> None:
    """As after a hit in the prefix cache: each reads the common blocks, and writes to its own."""
    runner, plain, rng = _runner(_model("qwen2")), _model("qwen2"), np.random.default_rng(5)
    first, other = sequences(runner, [14, 6], rng, vocabulary_size=VOCABULARY)
    feed(runner, [(first, 9)])
    second = Fed(first.tokens[:8] + other.tokens, [*first.blocks[:2], *other.blocks], done=8)
    while second.done < len(second.tokens):
        feed(runner, [(second, 1), (first, 1)] if first.done < len(first.tokens) else [(second, 1)])
    assert (second.results - _plain(plain, second.tokens)[8:]).abs().max() <= 1e-8
    assert (first.results - _plain(plain, first.tokens)).abs().max() <= 1e-8


def test_what_is_no_number_stays_with_the_sequence_that_computed_it() -> None:
    """Blocks that somebody has left with NaN in them are clean for whoever gets them next."""
    runner, plain, rng = _runner(_model("llama")), _model("llama"), np.random.default_rng(6)
    (spoilt,) = sequences(runner, [12], rng, vocabulary_size=VOCABULARY)
    feed_all(runner, [spoilt], rng)
    for cache in (*runner._backend._keys, *runner._backend._values):  # type: ignore[attr-defined]
        cache.fill_(torch.nan)
    fed = Fed(rng.integers(VOCABULARY, size=10).tolist(), spoilt.blocks)
    feed(runner, [(fed, 6)])
    for _ in range(4):
        feed(runner, [(fed, 1)])
    assert (fed.results - _plain(plain, fed.tokens)).abs().max() <= 1e-8


def test_a_step_of_which_nothing_is_wanted_only_fills_the_cache() -> None:
    """As for a piece of a prompt that is not its last."""
    runner, plain, rng = _runner(_model("llama")), _model("llama"), np.random.default_rng(7)
    (fed,) = sequences(runner, [9], rng, vocabulary_size=VOCABULARY)
    feed(runner, [(fed, 5)])
    batch = single_sequence(fed, 5)
    assert runner.run(replace(batch, rows=np.array([], np.int64))).shape[0] == 0
    assert (runner.run(batch) - _plain(plain, fed.tokens)[:5]).abs().max() <= 1e-8


def test_a_runner_says_what_it_holds() -> None:
    """Blocks, lengths and memory, as they are."""
    model = _model("llama")
    runner = make_runner(loaded(model, max_length=100), block_size=16, most_tokens=64)
    assert (runner.num_blocks, runner.block_size, runner.max_length) == (4, 16, 100)
    assert runner.cache_bytes == 64 * 2 * 2 * 2 * 8 * 8  # tokens, layers, keys and values, heads, elements, bytes
    assert runner.weights_bytes == sum(each.nbytes for each in model.parameters())
    runner.warm_up()
