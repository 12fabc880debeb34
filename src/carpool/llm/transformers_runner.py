"""Steps computed by transformers' own modules: any decoder whose attention can be given over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from carpool.llm.attention.hook import attending
from carpool.llm.likeliest import likeliest
from carpool.llm.row_sizes import round_up
from carpool.llm.runner import StepBatch
from carpool.llm.steady_positions import steady_length
from carpool.models.threads import ThreadCount

if TYPE_CHECKING:
    from torch import nn

    from carpool.llm.attention.interface import AttentionBackend
    from carpool.llm.loaded import LoadedLM
    from carpool.llm.runner import Want

_WARM_ROWS = (1, 16, 64)


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
        """Run what is slow the first time, for few rows and for many; any other number of rows is ready in 10 ms."""
        for num_rows in _WARM_ROWS:
            self.run(_single_tokens(min(num_rows, self.num_blocks)))

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step."""
        self._threads.apply()
        num_rows, num_wanted = self._filled_up(batch.num_tokens), len(batch.rows)
        inputs = np.zeros((3, max(num_rows, self._filled_up(num_wanted))), np.int64)
        inputs[0, : batch.num_tokens], inputs[1, : batch.num_tokens] = batch.token_ids, batch.positions
        inputs[2, :num_wanted] = batch.rows
        ids, positions, rows = torch.from_numpy(inputs).to(self._device)
        with torch.inference_mode():
            step = self._backend.prepare(batch, num_rows)
            wanted = rows[: num_wanted if batch.want == "hidden" else self._filled_up(num_wanted)]
            with attending(AttendingStep(self._backend, step)):
                found = self._call(ids[None, :num_rows], positions[None, :num_rows], wanted, batch.want)
            self._backend.finish(step)
            return found[:num_wanted]

    def _filled_up(self, num_rows: int) -> int:
        """To how many rows so many are filled up."""
        return round_up(num_rows)

    def _call(self, ids: torch.Tensor, positions: torch.Tensor, rows: torch.Tensor, want: Want) -> torch.Tensor:
        if want == "hidden" or not len(rows):
            hidden = self._model.base_model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
            return self._result(hidden[0, rows], want)
        logits = self._model(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=rows).logits[0]
        return self._result(logits, want)

    def _result(self, found: torch.Tensor, want: Want) -> torch.Tensor:
        if want == "tokens":
            return likeliest(found)
        return found.to(self._out_dtype)


class AttendingStep:
    """One step's attention, for the hook.

    Args:
        backend: attends.
        step: what it has prepared.
    """

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
        """Attend in one layer; (1, T, H, E)."""
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
