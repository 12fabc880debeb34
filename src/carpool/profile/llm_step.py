"""Steps of an LLM to be timed: which there are, and how each is put before a runner."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from carpool.core.sequence import Sequence
from carpool.core.step import Chunk, StepPlan
from carpool.cost.step_cost import decode_work, joined, prefill_work
from carpool.errors import OutOfMemory
from carpool.llm.runner import Runner, StepBatch
from carpool.llm.step_batch import step_batch
from carpool.profile.device import Device
from carpool.profile.shape import Shape
from carpool.profile.worker import OneThread
from carpool.runtime.execute import translate
from carpool.units import counted

if TYPE_CHECKING:
    from carpool.core.step import StepWork

Sizes: TypeAlias = tuple[int, ...]
# What a step costs before its first token, and what it takes to read the cache, in tokens: only to guess how long a
# step will take that was not run yet.
_STEP_TOKENS, _READS_A_TOKEN, _PAIRS_A_TOKEN = 64, 256, 4096


@dataclass(frozen=True, slots=True, order=True)
class StepShape(Shape):
    """A step: sequences that get one token each, and a piece of one more sequence's prompt.

    Args:
        batch_size: Sequences that get a token; may be 0.
        length: Tokens of each in the cache, that one included; 1 where there are none.
        chunk: Tokens of the piece; may be 0.
        start: Tokens of that prompt before it, in the cache.

    >>> print(StepShape(8, 256), "|", StepShape(0, 1, 128, 512), "|", StepShape(8, 256, 128))
    8 sequences at 256 | 128 tokens after 512 | 8 sequences at 256 and 128 tokens
    """

    chunk: int = 0
    start: int = 0

    @property
    def num_tokens(self) -> int:
        """What the work of a step is nearly proportional to, roughly, in tokens."""
        work = self.work
        read = work.kv_read // _READS_A_TOKEN + int(work.prefill_pairs) // _PAIRS_A_TOKEN
        return _STEP_TOKENS + work.num_tokens + read

    @property
    def work(self) -> StepWork:
        """What it costs by."""
        parts = [decode_work(self.batch_size, self.length)] if self.batch_size else []
        return joined(*parts, *([prefill_work(self.chunk, self.start)] if self.chunk else []))

    def __str__(self) -> str:
        decode = f"{counted(self.batch_size, 'sequence')} at {self.length}" if self.batch_size else ""
        after = f" after {self.start}" if self.start else ""
        chunk = f"{counted(self.chunk, 'token')}{after}" if self.chunk else ""
        return " and ".join(part for part in (decode, chunk) if part)

    def covers(self, other: Shape) -> bool:
        """Tell whether a step is at least as large as another in every direction."""
        assert isinstance(other, StepShape), "steps are compared with steps"
        return (
            self.batch_size >= other.batch_size
            and self.length >= other.length
            and self.chunk >= other.chunk
            and self.start >= other.start
        )

    def pieces(self) -> list[tuple[int, int]]:
        """Return the position of the first token computed of each sequence, and the one after the last."""
        chunk = [(self.start, self.start + self.chunk)] if self.chunk else []
        return [(self.length - 1, self.length)] * self.batch_size + chunk

    def num_blocks(self, block_size: int) -> int:
        """Return the blocks that its sequences hold."""
        return sum(-(-end // block_size) for _, end in self.pieces())


def steps_to_time(
    batch_sizes: Sizes, contexts: Sizes, chunks: Sizes, max_length: int, *, most_cached: float = inf
) -> list[StepShape]:
    """Return the steps that tell what a step costs: sequences alone, pieces of prompts alone, and some of both.

    Args:
        batch_sizes: Sequences that get a token each.
        contexts: Tokens of each in the cache.
        chunks: Tokens of a piece of a prompt.
        max_length: The longest sequence that the model takes.
        most_cached: Most tokens in the cache, of all sequences together.
    """
    within = tuple(context for context in contexts if context <= max_length) or (max_length,)
    pieces = tuple(chunk for chunk in chunks if chunk <= max_length) or (max_length,)
    decodes = [
        StepShape(size, context)
        for size in batch_sizes
        for context in within
        if size == batch_sizes[0] or size * context <= most_cached
    ]
    prefills = [
        StepShape(0, 1, chunk, start) for chunk in pieces for start in (0, within[-1]) if start + chunk <= max_length
    ]
    return [*decodes, *prefills, *_both(batch_sizes, within, pieces)]


def _both(batch_sizes: Sizes, contexts: Sizes, chunks: Sizes) -> Iterator[StepShape]:
    """Give steps in which a piece of a prompt runs beside others' tokens, at the middle of what is measured."""
    context = contexts[len(contexts) // 2]
    for size in sorted({batch_sizes[len(batch_sizes) // 2], batch_sizes[-1]}):
        for chunk in sorted({chunks[len(chunks) // 2], chunks[-1]}):
            yield StepShape(size, context, chunk)


def batch_of(shape: StepShape, runner: Runner, rng: np.random.Generator) -> StepBatch:
    """Put a step before a runner: tokens at random, in blocks that lie anywhere in its cache.

    Args:
        shape: The step.
        runner: Whose cache and vocabulary they are.
        rng: Draws tokens and blocks.

    Raises:
        OutOfMemory: The runner's cache has fewer blocks.
    """
    needed = shape.num_blocks(runner.block_size)
    if needed > runner.num_blocks:
        raise OutOfMemory(
            f"{shape} needs {needed:,} blocks of the KV cache, which has {runner.num_blocks:,}: give it more memory"
        )
    blocks: list[int] = rng.permutation(runner.num_blocks)[:needed].tolist()
    chunks = []
    for start, end in shape.pieces():
        count = -(-end // runner.block_size)
        tokens: list[int] = rng.integers(0, runner.vocabulary_size, end).tolist()
        sequence = Sequence(tokens=tokens, max_new_tokens=1, blocks=blocks[:count])
        del blocks[:count]
        chunks.append(Chunk(sequence=sequence, start=start, num_tokens=end - start, samples=True))
    return step_batch(StepPlan(chunks=tuple(chunks), preempted=(), work=shape.work), want="tokens")


@dataclass(slots=True)
class StepCaller:
    """Runs steps on the thread that the model was loaded on, and times them there.

    Args:
        runner: Computes them.
        thread: That thread.
        device: What has to be waited for.
        rng: Draws tokens and blocks, another lot for every call.
        clock: Seconds from any origin.
    """

    runner: Runner
    thread: OneThread
    device: Device
    rng: np.random.Generator
    clock: Callable[[], float] = time.perf_counter

    def check_s(self, shape: Shape) -> float:
        """Run once, and return the seconds.

        Raises:
            CarpoolError: The model raised, or the step does not fit.
        """
        return self.times_s(shape, 1, settle=False)[0]

    def times_s(self, shape: Shape, num_calls: int, *, settle: bool) -> list[float]:
        """Run a few times, and return the seconds of each.

        Raises:
            CarpoolError: The model raised, or the step does not fit.
        """
        assert isinstance(shape, StepShape), "a runner computes steps"
        batches = [batch_of(shape, self.runner, self.rng) for _ in range(num_calls + settle)]
        return self.thread.call(lambda: [self.time_s(batch) for batch in batches])[settle:]

    def time_s(self, batch: StepBatch) -> float:
        """Run one step, and return its seconds; call it on the runner's thread.

        Raises:
            CarpoolError: The model raised.
        """
        self.device.synchronize()
        start = self.clock()
        try:
            self.runner.run(batch)
        except BaseException as error:
            raise translate(error, batch.num_sequences) from error
        self.device.synchronize()
        return self.clock() - start
