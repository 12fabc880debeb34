"""Steps computed by transformers' own modules: any decoder whose attention can be given over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from carpool.llm.attention.hook import attending, use_paged_attention
from carpool.llm.attention.portable import PortableAttention
from carpool.llm.kv_cache import available_bytes, block_bytes, num_blocks_for
from carpool.llm.model_check import check_in_two_chunks, plain_logits, probe, sample_tokens
from carpool.llm.row_sizes import round_up, row_sizes
from carpool.llm.runner import StepBatch
from carpool.llm.steady_positions import steady_length
from carpool.models.threads import ThreadCount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from carpool.llm.attention.interface import AttentionBackend, AttentionLayer
    from carpool.llm.loaded import LoadedLM

_MOST_WARM_ROWS = 64
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
    make_backend: MakeBackend = PortableAttention,
) -> TransformersRunner:
    """Give a model a cache and somewhere to attend, and see that it still computes what it did.

    Args:
        loaded: the model; its attention is replaced.
        block_size: tokens in a block.
        kv_memory_bytes: memory of the cache; None for what is free, 80 % of it at most.
        most_tokens: tokens that could ever be in the cache at a time, such as slots times the longest length.
        num_threads: threads of one operation on the CPU, on the thread that runs the steps; None for PyTorch's choice.
        make_backend: how attention is computed.

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
    backend = make_backend(layers, num_blocks=num_blocks, block_size=block_size, dtype=model.dtype, device=model.device)
    runner = TransformersRunner(loaded, backend, num_blocks=num_blocks, block_size=block_size, num_threads=num_threads)
    if num_blocks * block_size >= num_tried:
        check_in_two_chunks(runner, loaded.name, tokens, expected)
    return runner


class TransformersRunner:
    """Runs steps through a model of transformers.

    Args:
        loaded: the model, its attention given over.
        backend: attends, and keeps keys and values.
        num_blocks: blocks of the backend.
        block_size: tokens in each.
        num_threads: threads of one operation on the CPU; None for PyTorch's choice.
    """

    def __init__(
        self,
        loaded: LoadedLM,
        backend: AttentionBackend[Any],
        *,
        num_blocks: int,
        block_size: int,
        num_threads: int | None = None,
    ) -> None:
        self._model, self._backend, self._device = loaded.model, backend, loaded.model.device
        self._threads = ThreadCount(num_threads)
        self._out_dtype = torch.float64 if loaded.model.dtype == torch.float64 else torch.float32
        steady = steady_length(loaded.model.config)
        self.max_length = loaded.max_length if steady is None else min(loaded.max_length, steady)
        self.num_blocks, self.block_size = num_blocks, block_size
        self.vocabulary_size = loaded.vocabulary_size
        self.weights_bytes, self.cache_bytes = loaded.weights_bytes, backend.cache_bytes

    def warm_up(self) -> None:
        """Run steps of all small sizes once: each number of rows is made ready apart."""
        most = min(_MOST_WARM_ROWS, self.num_blocks)
        for num_rows in row_sizes(most):
            self.run(_single_tokens(min(num_rows, most)))

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step."""
        self._threads.apply()
        num_rows, num_wanted = round_up(batch.num_tokens), len(batch.rows)
        inputs = np.zeros((3, max(num_rows, round_up(num_wanted))), np.int64)
        inputs[0, : batch.num_tokens], inputs[1, : batch.num_tokens] = batch.token_ids, batch.positions
        inputs[2, :num_wanted] = batch.rows
        ids, positions, rows = torch.from_numpy(inputs).to(self._device)
        with torch.inference_mode():
            step = self._backend.prepare(batch, num_rows)
            wanted = rows[: num_wanted if batch.want == "hidden" else round_up(num_wanted)]
            with attending(_Step(self._backend, step)):
                found = self._call(ids[None, :num_rows], positions[None, :num_rows], wanted, batch)
            self._backend.finish(step)
            return found[:num_wanted]

    def _call(self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, batch: StepBatch) -> torch.Tensor:
        if batch.want == "hidden" or not len(rows):
            hidden = self._model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
            return self._result(hidden[0, rows], batch)
        logits = self._model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=rows).logits[0]
        return self._result(logits, batch)

    def _result(self, found: torch.Tensor, batch: StepBatch) -> torch.Tensor:
        if batch.want == "tokens":
            return found.argmax(-1)
        return found.to(self._out_dtype)


class _Step:
    """One step's attention, for the hook."""

    __slots__ = ("_attend", "_step")

    def __init__(self, backend: AttentionBackend[Any], step: Any) -> None:
        self._attend, self._step = backend.attend, step

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        more: dict[str, Any],  # noqa: ARG002 - known since the model was tried
    ) -> torch.Tensor:
        q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))  # (T, heads, size)
        layer: Any = module.layer_idx
        return self._attend(layer, q, k, v, self._step)[None]


def _single_tokens(num_sequences: int) -> StepBatch:
    """A step of sequences with one token each."""
    return StepBatch(
        token_ids=np.zeros(num_sequences, np.int64),
        positions=np.zeros(num_sequences, np.int64),
        starts=np.arange(num_sequences + 1, dtype=np.int32),
        contexts=np.ones(num_sequences, np.int32),
        block_tables=np.arange(num_sequences, dtype=np.int32)[:, None],
        rows=np.arange(num_sequences, dtype=np.int64),
        want="tokens",
    )
