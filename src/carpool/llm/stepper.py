"""The scheduler, the runner and the samplers behind a lock, told the time by a clock: one step at a time.

It starts no thread, so that a test or a simulation can drive it step by step.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carpool.core.continuous import Continuous
from carpool.errors import BatcherClosed, CarpoolError, DeadlineExceeded, DispatcherDied, InvalidItem, QueueFull
from carpool.llm.execute import Executor
from carpool.llm.hand_out import hand_out
from carpool.llm.intake import Intake
from carpool.llm.rescue import Rescue
from carpool.llm.stream import News
from carpool.llm.take_in import Taken, take_in
from carpool.models.blame import text_of
from carpool.runtime.failures import FailureLog
from carpool.signals.llm_events import SequenceEnded, SequenceRefused, StepFailed, StepRan
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import carpool.core.sequence
    from carpool.core.clock import Clock
    from carpool.core.cost import StepTimeModel
    from carpool.core.step import Chunk, StepPlan
    from carpool.core.step_policy import StepPolicy
    from carpool.llm.consumer import Consumer
    from carpool.llm.execute import Attempt, Piece, Result
    from carpool.llm.job import Job
    from carpool.llm.outputs import FinishReason, Output
    from carpool.llm.parts import Parts
    from carpool.llm.request import Generation
    from carpool.signals.llm_events import LLMSink


_MOST_STALE = 1024


@dataclass(slots=True)
class Times:
    """The instants of one step.

    Args:
        started_at: when it began to be planned.
        run_at: when the model began.
        ran_at: when the tokens were chosen.
        predicted_s: what the time model promised for the time between.
    """

    started_at: float
    run_at: float = 0.0
    ran_at: float = 0.0
    predicted_s: float | None = None


class Stepper:
    """Plans, runs and commits steps; any thread may submit and end generations meanwhile.

    Args:
        parts: what it works with.
        policy: how steps are formed; its block size gives way to the runner's.
        clock: tells the time.
        sink: is told what happened.
        time_model: predicts how long a step runs.
    """

    def __init__(
        self, parts: Parts, policy: StepPolicy, clock: Clock, sink: LLMSink, *, time_model: StepTimeModel | None = None
    ) -> None:
        runner = parts.runner
        self.failures = FailureLog(parts.name, clock)
        self.intake = Intake(parts)
        self._clock = clock
        self._sink = sink
        self._executor = Executor(runner)
        self._time_model = time_model
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._scheduler = Continuous(
            replace(policy, block_size=runner.block_size),
            num_blocks=runner.num_blocks,
            max_length=runner.max_length,
            time_model=time_model,
        )
        self._jobs: set[Job] = set()
        self._timeouts: list[tuple[float, int, list[Job]]] = []
        self._numbers = itertools.count()
        self._prefix_counts = (0, 0)  # looked up, found: up to the latest step
        self._is_closing = False
        self._failure: CarpoolError | None = None

    # -------------------------------------------------------------------------------------------- for callers

    def submit(self, generation: Generation, on_output: Callable[[Output], None], consumer: Consumer) -> list[Job]:
        """Accept a generation; return the jobs of its sequences.

        Args:
            generation: what is asked for.
            on_output: is called with each output, by the consumer.
            consumer: where it is called.

        Raises:
            InvalidItem: it can never fit, or holds what is no token.
            QueueFull: too many wait.
            BatcherClosed: the engine shuts down.
            DispatcherDied: it failed.
        """
        now = self._clock.now()
        try:
            jobs = self.intake.jobs(generation, on_output, consumer, now)
            with self._lock:
                self._accept(jobs, now)
                if generation.timeout_s is not None:
                    self._await_timeout(now + generation.timeout_s, jobs)
                self._work.notify()
        except (InvalidItem, QueueFull) as error:
            reason = "queue_full" if isinstance(error, QueueFull) else "invalid"
            self._sink.record(SequenceRefused(at=now, reason=reason, tenant=generation.tenant))
            raise
        return jobs

    def _accept(self, jobs: list[Job], now: float) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
        if self._is_closing:
            raise BatcherClosed("the engine is shutting down and takes no more generations: start another one")
        first = jobs[0].sequence
        self._scheduler.add(first, now)
        for job in jobs[1:]:
            self._scheduler.fork(first, job.sequence)  # what fits once fits again, and no queue is too full for it
        self._jobs.update(jobs)

    def end(self, jobs: Iterable[Job], reason: FinishReason) -> None:
        """End sequences at once: nobody waits any more, or the text is at its end; those that have ended stay so.

        Args:
            jobs: theirs.
            reason: why.
        """
        now = self._clock.now()
        with self._lock:
            events = [self._end(job, reason, now) for job in jobs if not job.has_ended]
            self._work.notify()  # it may have been the last that a closing engine waits for
        self._record(events)

    def _end(self, job: Job, reason: FinishReason, now: float) -> SequenceEnded:
        self._scheduler.finish(job.sequence)
        return self._ended(job, reason, now, job.stream.num_generated)

    def _ended(self, job: Job, reason: FinishReason, now: float, num_generated: int | None = None) -> SequenceEnded:
        job.has_ended = True
        self._jobs.discard(job)
        return job.ended(now, reason, num_generated)

    def _record(self, events: Iterable[SequenceEnded]) -> None:
        for event in events:
            self._sink.record(event)

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot."""
        return self._scheduler.num_running

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for one."""
        return self._scheduler.num_waiting

    @property
    def usage(self) -> float:
        """Share of the cache's blocks that sequences hold, 0 to 1."""
        return self._scheduler.usage

    @property
    def failure(self) -> CarpoolError | None:
        """Why it stopped working; None while it works."""
        return self._failure

    def check_integrity(self) -> None:
        """Assert that no block and no sequence has been lost."""
        with self._lock:
            self._scheduler.check_integrity()
            assert len(self._jobs) == self._scheduler.num_running + self._scheduler.num_waiting, "a job was lost"

    # --------------------------------------------------------------------------------------------- for steps

    def await_work(self) -> bool:
        """Wait until there is something to do; False when there will be nothing more."""
        with self._lock:
            self._work.wait_for(lambda: self._scheduler.has_work or self._is_closing or self._failure)
            return self._failure is None and self._scheduler.has_work

    def step(self) -> bool:
        """Compute one step; return whether there was any."""
        times = Times(self._clock.now())
        plan, pieces = self._plan(times.started_at)
        if plan is None:
            return False
        times.predicted_s = self._time_model.time_s(plan.work) if self._time_model else None
        times.run_at = self._clock.now()
        attempt = self._executor.run(pieces)
        faults = {} if attempt.error is None else self._rescue(plan, attempt, attempt.error, times.run_at)
        times.ran_at = self._clock.now()
        taken = self._take_in(plan, attempt.answered, faults, times.ran_at)
        self._tell(plan, taken, times)
        return True

    def _plan(self, now: float) -> tuple[StepPlan | None, list[Piece]]:
        pieces: list[Piece] = []
        with self._lock:
            expired = self._expire(now)
            plan = self._scheduler.plan(now)
            if plan is not None:
                for chunk in plan.chunks:
                    job: Job = chunk.sequence.handle
                    if job.scheduled_at is None:
                        job.scheduled_at = now
                pieces = self._executor.prepare(plan.chunks)
            assert plan is not None or not self._scheduler.has_work, "sequences wait, and there is nothing to compute"
        self._hand_out(expired)
        return plan, pieces

    def _rescue(
        self, plan: StepPlan, attempt: Attempt, error: CarpoolError, started_at: float
    ) -> Mapping[carpool.core.sequence.Sequence, CarpoolError]:
        """Compute what a step that raised has left; add it to what it answered, and return who is guilty."""
        left = [chunk for chunk in plan.chunks if chunk.sequence not in attempt.answered]
        what = f"a step of {counted(len(plan.chunks), 'sequence')}"
        now = self._clock.now()
        self._sink.record(
            StepFailed(at=now, started_at=started_at, num_sequences=len(plan.chunks), error=text_of(error))
        )
        self.failures.failed(what, error)
        rescue = Rescue(self._run_again, lambda: self._executor.most_tokens)
        rescue.save(left, error)
        attempt.answered.update(rescue.answered)
        return rescue.faults

    def _run_again(self, chunks: Sequence[Chunk]) -> Attempt:
        with self._lock:
            pieces = self._executor.prepare(chunks)
        return self._executor.run(pieces)

    def _take_in(
        self,
        plan: StepPlan,
        answered: Mapping[carpool.core.sequence.Sequence, Result | int],
        faults: Mapping[carpool.core.sequence.Sequence, CarpoolError],
        now: float,
    ) -> Taken:
        with self._lock:
            taken = take_in(plan.chunks, answered, now)
            whole = plan if len(taken.chunks) == len(plan.chunks) else replace(plan, chunks=tuple(taken.chunks))
            self._scheduler.commit(whole, taken.tokens, now)
            events = [self._ended(job, reason, now) for job, reason in taken.ended]
            for sequence, error in faults.items():
                if not sequence.handle.has_ended:
                    events.append(self._end(sequence.handle, "error", now))
                    taken.news.append((sequence.handle, News(finish_reason="error", error=error)))
        self._hand_out(taken.news)
        self._record(events)
        return taken

    def _hand_out(self, news: list[tuple[Job, News | int]]) -> None:
        if news:
            hand_out(news, self.end)

    def _tell(self, plan: StepPlan, taken: Taken, times: Times) -> None:
        scheduler, work = self._scheduler, plan.work
        queries, hits = self._prefix_counts
        self._prefix_counts = scheduler.prefix_queries, scheduler.prefix_hits
        self._sink.record(
            StepRan(
                at=self._clock.now(),
                started_at=times.started_at,
                run_at=times.run_at,
                ran_at=times.ran_at,
                num_tokens=work.num_tokens,
                num_sequences=work.num_sequences,
                num_sampled=len(taken.ttft_s) + len(taken.itl_s),
                kv_read=work.kv_read,
                prefill_pairs=work.prefill_pairs,
                num_running=scheduler.num_running,
                num_waiting=scheduler.num_waiting,
                kv_usage=scheduler.usage,
                num_preempted=len(plan.preempted),
                preempted=tuple(sequence.request_id for sequence in plan.preempted),
                preempted_because=plan.preempted_because,
                num_prompt=taken.num_prompt,
                prefix_queries=self._prefix_counts[0] - queries,
                prefix_hits=self._prefix_counts[1] - hits,
                ttft_s=tuple(taken.ttft_s),
                itl_s=tuple(taken.itl_s),
                predicted_s=times.predicted_s,
            )
        )

    def _await_timeout(self, at: float, jobs: list[Job]) -> None:
        if len(self._timeouts) > _MOST_STALE + 2 * len(self._jobs):  # mostly of those that have long begun
            self._timeouts = [
                entry for entry in self._timeouts if entry[2][0].scheduled_at is None and not entry[2][0].has_ended
            ]
            heapq.heapify(self._timeouts)
        heapq.heappush(self._timeouts, (at, next(self._numbers), jobs))

    def _expire(self, now: float) -> list[tuple[Job, News | int]]:
        """Give up what has waited too long for its first step."""
        news: list[tuple[Job, News | int]] = []
        while self._timeouts and self._timeouts[0][0] <= now:
            _, _, jobs = heapq.heappop(self._timeouts)
            if jobs[0].scheduled_at is not None:
                continue
            for job in jobs:
                if not job.has_ended:
                    waited_s = now - job.sequence.arrived_at
                    message = f"the prompt waited {waited_s:.3g} s, longer than its timeout; it was not computed"
                    self._sink.record(self._end(job, "abort", now))
                    news.append((job, News(finish_reason="abort", error=DeadlineExceeded(message))))
        return news

    # ---------------------------------------------------------------------------------------------- shut down

    def close(self) -> None:
        """Accept nothing more; what was accepted is still generated."""
        with self._lock:
            self._is_closing = True
            self._work.notify_all()

    def abandon(self, error: CarpoolError, reason: FinishReason = "abort") -> None:
        """End everything.

        Args:
            error: what those who wait are told.
            reason: how it is counted.
        """
        now = self._clock.now()
        with self._lock:
            jobs = [job for job in self._jobs if not job.has_ended]
            events = [self._end(job, reason, now) for job in jobs]
            self._work.notify_all()
        self._hand_out([(job, News(finish_reason=reason, error=error)) for job in jobs])
        self._record(events)

    def die(self, cause: BaseException) -> None:
        """End everything, and take nothing more, because of a fault of the engine itself."""
        message = f"the engine stopped: {type(cause).__name__}: {cause}; restart it and report this"
        failure = DispatcherDied(message)
        failure.__cause__ = cause
        self._failure = failure
        with contextlib.suppress(Exception):  # the fault may be the scheduler's own
            self.abandon(failure, "error")
