"""Make what computes a model's steps: its attention is given over, its cache laid out, and both are tried."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch

from carpool.llm.attention.hook import use_paged_attention
from carpool.llm.attention.portable import PortableAttention
from carpool.llm.deterministic import DeterministicRunner, check_rows_alike
from carpool.llm.kv_cache import available_bytes, block_bytes, num_blocks_for
from carpool.llm.model_check import check_in_two_chunks, plain_logits, probe, sample_tokens
from carpool.llm.transformers_runner import TransformersRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.llm.attention.interface import AttentionBackend, AttentionLayer
    from carpool.llm.loaded import LoadedLM

_TRIED_BEYOND_A_BLOCK = 8


class MakeBackend(Protocol):
    """Makes an attention backend."""

    def __call__(
        self,
        layers: Sequence[AttentionLayer],
        *,
        num_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> AttentionBackend[Any]:
        """Make it.

        Args:
            layers: of the model.
            num_blocks: blocks to keep.
            block_size: tokens in each.
            dtype: of keys and values.
            device: where they lie.
        """
        ...


def make_runner(
    loaded: LoadedLM,
    *,
    block_size: int = 32,
    kv_memory_bytes: int | None = None,
    most_tokens: int | None = None,
    num_threads: int | None = None,
    make_backend: MakeBackend | None = None,
    deterministic: bool = False,
) -> TransformersRunner:
    """Give a model a cache and somewhere to attend, and see that it still computes what it did.

    Args:
        loaded: the model; its attention is replaced.
        block_size: tokens in a block.
        kv_memory_bytes: memory of the cache; None for what is free, 80 % of it at most.
        most_tokens: tokens that could ever be in the cache at a time, such as slots times the longest length.
        num_threads: threads of one operation on the CPU, on the thread that runs the steps; None for PyTorch's choice.
        make_backend: how attention is computed; None for what suits the device.
        deterministic: whether results are bitwise the same for a sequence alone and in any batch; then attention is
            computed in the one way that is.

    Raises:
        ConfigError: its attention is of a kind that is not computed here, or the cache does not fit.
    """
    model = loaded.model
    with torch.inference_mode():
        num_tried = min(block_size + _TRIED_BEYOND_A_BLOCK, loaded.max_length)
        tokens = sample_tokens(num_tried, loaded.vocabulary_size)
        expected = plain_logits(model, tokens)
        use_paged_attention(model)
        layers = probe(model, tokens)
    num_blocks = num_blocks_for(
        block_bytes(layers, block_size=block_size, element_bytes=model.dtype.itemsize),
        available_bytes=available_bytes(model.device),
        wanted_bytes=kv_memory_bytes,
        most_blocks=None if most_tokens is None else -(-most_tokens // block_size),
    )
    on_cuda = make_backend is None and model.device.type == "cuda" and not deterministic
    suited = (
        _fixed_attention if deterministic else make_backend or (_triton_attention() if on_cuda else PortableAttention)
    )
    backend = suited(layers, num_blocks=num_blocks, block_size=block_size, dtype=model.dtype, device=model.device)
    kind = DeterministicRunner if deterministic else _cuda_runner() if on_cuda else TransformersRunner
    runner = kind(loaded, backend, num_blocks=num_blocks, block_size=block_size, num_threads=num_threads)
    if num_blocks * block_size >= num_tried:
        check_in_two_chunks(runner, loaded.name, tokens, expected)
    if deterministic:
        check_rows_alike(runner, loaded.name)
    return runner


_fixed_attention = partial(PortableAttention, moves_blocks=False)


def _triton_attention() -> MakeBackend:
    """Attention for CUDA; Triton comes with PyTorch's builds for it."""
    from carpool.llm.attention.triton_paged import TritonPagedAttention

    return TritonPagedAttention


def _cuda_runner() -> type[TransformersRunner]:
    from carpool.llm.cuda_runner import CudaRunner

    return CudaRunner
