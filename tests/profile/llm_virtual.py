"""A generator in virtual time: its steps take what five terms say, and no time passes for anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.core.step import StepWork
from carpool.llm.runner import StepBatch
from carpool.profile.budget import Budget
from carpool.profile.device import Host
from carpool.profile.llm_session import LlmSession
from carpool.profile.llm_step import StepCaller
from carpool.profile.machine import Machine
from carpool.profile.options import ProfileOptions
from carpool.profile.other_load import OtherLoad
from carpool.profile.peaks import MeasuredPeaks
from carpool.profile.worker import OneThread
from carpool.report.progress import Progress, SilentProgress
from tests.profile.virtual import VirtualTime

if TYPE_CHECKING:
    from carpool.profile.llm_artefact import LlmProfile

TERMS = (0.018, 1.2e-4, 2.5e-4, 6e-7, 2e-8)
MACHINE = Machine(
    device="cpu",
    device_name="a processor",
    num_cores=4,
    num_threads=4,
    memory_bytes=16 * 1024**3,
    dtype="bfloat16",
    platform="Linux x86_64",
    versions={"carpool": "0", "python": "3.12"},
)
PEAKS = MeasuredPeaks(
    flops_per_s=1e12,
    matrix_size=2048,
    bytes_per_s=3e10,
    to_device_bytes_per_s=None,
    to_host_bytes_per_s=None,
    dtype="bfloat16",
    library="torch",
)


def step_s(work: StepWork, terms: tuple[float, ...] = TERMS) -> float:
    """Seconds of a step."""
    values = (1.0, work.num_tokens, work.num_sequences, work.kv_read, work.prefill_pairs)
    return sum(term * value for term, value in zip(terms, values, strict=True))


def work_of(batch: StepBatch) -> StepWork:
    """What a batch that was laid out costs by."""
    lengths = np.diff(batch.starts)
    single = lengths == 1
    starts = batch.contexts - lengths
    return StepWork(
        num_tokens=batch.num_tokens,
        num_sequences=batch.num_sequences,
        num_sampled=len(batch.rows),
        kv_read=int(batch.contexts[single].sum()),
        prefill_pairs=float((lengths * (starts + lengths / 2))[~single].sum()),
    )


@dataclass(slots=True)
class VirtualRunner:
    """Computes nothing, and takes as long as five terms say.

    Args:
        time: What passes.
        fail: Raises for batches that fail.
        batches: What it was given.
    """

    time: VirtualTime
    fail: Callable[[StepBatch], None] = lambda _: None
    batches: list[StepBatch] = field(default_factory=list)
    num_blocks: int = 8192
    block_size: int = 16
    max_length: int = 8192
    vocabulary_size: int = 1000
    weights_bytes: int = 269_000_000
    cache_bytes: int = 8192 * 368_640

    def warm_up(self) -> None:
        """Nothing is dear the first time."""

    def run(self, batch: StepBatch) -> Any:
        """Compute a step."""
        self.fail(batch)
        self.batches.append(batch)
        self.time.now += step_s(work_of(batch))
        return np.zeros(len(batch.rows), np.int64)


@dataclass(frozen=True, slots=True)
class VirtualLoaded:
    """A model that is loaded."""

    runner: VirtualRunner
    name: str = "tiny"


def session(
    thread: OneThread, options: ProfileOptions | None = None, *, progress: Progress | None = None, **runner: Any
) -> LlmSession:
    """A session of such a model."""
    time, options = VirtualTime(), options or ProfileOptions(budget_s=60)
    loaded = VirtualLoaded(VirtualRunner(time, **runner))
    return LlmSession(
        target="demo:tiny",
        loaded=loaded,
        options=options,
        machine=MACHINE,
        caller=StepCaller(loaded.runner, thread, Host(), np.random.default_rng(0), clock=time),
        num_blocks=loaded.runner.num_blocks,
        measure=lambda _: PEAKS,
        budget=Budget(options.budget_s, progress or SilentProgress(), time),
        other_load=lambda: OtherLoad(clock=time, busy_s=lambda: 0.0, own_s=lambda: 0.0),
    )


def profiled(options: ProfileOptions | None = None, **runner: Any) -> LlmProfile:
    """The profile of such a model."""
    with OneThread() as thread:
        return session(thread, options, **runner).run()
