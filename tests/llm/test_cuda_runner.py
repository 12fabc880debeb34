"""The runner for CUDA, with Triton's kernels interpreted and recordings that compute anew: the logic, without a GPU."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from carpool.llm.attention.hook import use_paged_attention
from carpool.llm.attention.triton_paged import TritonPagedAttention
from carpool.llm.cuda_runner import CudaRunner
from carpool.llm.make_runner import make_runner
from carpool.llm.model_check import probe
from tests.llm.steps import Fed, feed, feed_all, loaded, sequences
from tests.llm.tiny import VOCABULARY, logits_of, tiny_model

if TYPE_CHECKING:
    from collections.abc import Callable

INTERPRETED = partial(TritonPagedAttention, num_processors=1)
BLOCK_SIZE, NUM_BLOCKS = 8, 24


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_a_model_over_triton_attention_gives_what_transformers_gives(kind: str) -> None:
    """Windows and soft caps included; blocks lie anywhere."""
    per_token = 2 * 2 * 4 * 32 * 4
    runner = make_runner(
        loaded(tiny_model(kind)),
        block_size=BLOCK_SIZE,
        kv_memory_bytes=per_token * BLOCK_SIZE * NUM_BLOCKS,
        most_tokens=BLOCK_SIZE * NUM_BLOCKS,
        make_backend=INTERPRETED,
    )
    rng = np.random.default_rng(1)
    feds = sequences(runner, [3, 17], rng, vocabulary_size=VOCABULARY)
    feed_all(runner, feds, rng)
    for fed in feds:
        expected = logits_of(tiny_model(kind, attn_implementation="eager"), torch.tensor([fed.tokens]))
        assert (fed.results - expected).abs().max() <= 1e-4 * expected.abs().max()


class Recordings:
    """Counts what is recorded; what plays it back computes it anew."""

    def __init__(self) -> None:
        self.num_made = 0

    def __call__(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Record nothing."""
        self.num_made += 1
        return compute


def make_cuda_runner(record: Recordings) -> CudaRunner:
    """The runner over interpreted kernels."""
    model = tiny_model("llama")
    use_paged_attention(model)
    with torch.inference_mode():
        layers = probe(model, torch.arange(3, 11))
    backend = INTERPRETED(
        layers, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE, device=torch.device("cpu"), dtype=model.dtype
    )
    return CudaRunner(loaded(model), backend, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE, record=record)


def test_single_tokens_are_played_back_at_the_next_recorded_size() -> None:
    """Three sequences run in a recording of four, whose fourth keeps nothing; a second step of three plays it again."""
    record = Recordings()
    runner = make_cuda_runner(record)
    feds = sequences(runner, [12, 9, 19], np.random.default_rng(2), vocabulary_size=VOCABULARY)
    feed(runner, [(fed, len(fed.tokens) - 2) for fed in feds])
    assert record.num_made == 0, "longer chunks are not recorded"
    for _ in range(2):
        feed(runner, [(fed, 1) for fed in feds])
    assert record.num_made == 1
    for fed in feds:
        expected = logits_of(tiny_model("llama"), torch.tensor([fed.tokens]))
        assert (fed.results - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_what_is_returned_outlives_the_next_step() -> None:
    """A recording gives the same tensor each time; what the caller holds is its own."""
    runner = make_cuda_runner(Recordings())
    fed = Fed([5, 6, 7], [3])
    feed(runner, [(fed, 2)])
    feed(runner, [(fed, 1)], want="tokens")
    first = fed.said[-1].clone()
    other = Fed([9], [4])
    feed(runner, [(other, 1)], want="tokens")
    assert torch.equal(fed.said[-1], first)
    assert fed.said[-1].tolist() == logits_of(tiny_model("llama"), torch.tensor([[5, 6, 7]]))[-1:].argmax(-1).tolist()
