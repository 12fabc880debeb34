"""Steps on CUDA: those of single tokens are recorded once for each number of them, and played back as one launch.

A step of few tokens is over sooner than a processor can launch its hundreds of kernels one by one. A recording (a CUDA
graph) launches them all at once; it reads its inputs where they lay when it was made, so that is where they are put.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from carpool.llm.attention.hook import attending
from carpool.llm.attention.triton_paged import PagedStep, TritonPagedAttention
from carpool.llm.transformers_runner import AttendingStep, TransformersRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.llm.loaded import LoadedLM
    from carpool.llm.runner import StepBatch, Want

    Play = Callable[[], torch.Tensor]

_SIZES = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_MOST_WARMED = 64
_NUM_REHEARSALS = 2


def record_graph(compute: Play) -> Play:
    """Record what a function launches, and return what plays it back; it gives the same tensor each time.

    Args:
        compute: launches, on the current device, always the same with its tensors in the same places.
    """
    aside: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries set themselves up on first use, which can't be recorded
        for _ in range(_NUM_REHEARSALS):
            compute()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = compute()

    def play() -> torch.Tensor:
        graph.replay()
        return found

    return play


@dataclass(frozen=True, slots=True)
class _Recording:
    """A step of single tokens whose inputs lie where they lay.

    Args:
        inputs: (2, S) int64; token ids and positions.
        step: what attention goes by.
        play: computes.
    """

    inputs: torch.Tensor
    step: PagedStep
    play: Play


class CudaRunner(TransformersRunner):
    """Runs steps through a model of transformers on CUDA.

    Args:
        loaded: the model, its attention given over.
        backend: attends, and keeps keys and values.
        num_blocks: blocks of the backend.
        block_size: tokens in each.
        num_threads: threads of one operation on the host; None for PyTorch's choice.
        record: makes a recording.
    """

    def __init__(
        self,
        loaded: LoadedLM,
        backend: TritonPagedAttention,
        *,
        num_blocks: int,
        block_size: int,
        num_threads: int | None = None,
        record: Callable[[Play], Play] = record_graph,
    ) -> None:
        super().__init__(loaded, backend, num_blocks=num_blocks, block_size=block_size, num_threads=num_threads)
        self._paged = backend
        self._record = record
        self._width = min(num_blocks, -(-self.max_length // block_size))
        self._recordings: dict[tuple[int, Want], _Recording] = {}

    def warm_up(self) -> None:
        """Record the steps of few tokens; those of many are recorded when the first of them comes."""
        super().warm_up()
        for size in _SIZES:
            if size <= min(_MOST_WARMED, self.num_blocks):
                self._recording(size, "tokens")

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step."""
        alone = batch.num_tokens == batch.num_sequences == len(batch.rows) <= _SIZES[-1]
        if not alone or batch.want == "hidden":
            return super().run(batch)
        recording = self._recording(_SIZES[bisect_left(_SIZES, batch.num_tokens)], batch.want)
        inputs = torch.from_numpy(np.stack([batch.token_ids, batch.positions]))
        with torch.inference_mode():
            recording.inputs[:, : batch.num_tokens] = inputs.to(recording.inputs.device)
            self._paged.fill(recording.step, batch)
            return recording.play()[: batch.num_tokens].clone()  # the next step writes over it

    def _recording(self, size: int, want: Want) -> _Recording:
        found = self._recordings.get((size, want))
        if found is None:
            with torch.inference_mode():
                found = self._recordings[size, want] = self._made(size, want)
        return found

    def _made(self, size: int, want: Want) -> _Recording:
        inputs = torch.zeros(2, size, dtype=torch.int64, device=self._device)
        rows = torch.arange(size, device=self._device)
        step = self._paged.static_step(size, self._width)
        attend: Any = AttendingStep(self._paged, step)

        def compute() -> torch.Tensor:
            with attending(attend):
                return self._call(inputs[:1], inputs[1:], rows, want)

        return _Recording(inputs, step, self._record(compute))
