"""The live LLM engine: one thread that plans steps, runs them, and hands out what came of them."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Self

from carpool.core.step_policy import StepPolicy
from carpool.cost.step_online import LearnedStepTime
from carpool.errors import BatcherClosed, CarpoolError, ConfigError, ModelHung
from carpool.llm.consumer import LoopConsumer
from carpool.llm.stepper import Stepper
from carpool.runtime.clock import SystemClock
from carpool.runtime.watch import Watch
from carpool.runtime.worker import told
from carpool.signals.fan_out import FanOut
from carpool.signals.llm_metrics import LLMMetrics
from carpool.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.core.clock import Clock
    from carpool.core.cost import StepTimeModel
    from carpool.llm.constraint import Constraint
    from carpool.llm.consumer import Consumer
    from carpool.llm.job import Job
    from carpool.llm.outputs import Output
    from carpool.llm.parts import Parts
    from carpool.llm.request import Generation
    from carpool.signals.llm_events import LLMEvent, LLMSink

_logger = logging.getLogger("carpool.llm")


class Handle:
    """A generation that was accepted.

    Args:
        jobs: its sequences'.
        stepper: what computes them.
    """

    __slots__ = ("_jobs", "_stepper")

    def __init__(self, jobs: list[Job], stepper: Stepper) -> None:
        self._jobs = jobs
        self._stepper = stepper

    def cancel(self) -> None:
        """Give it up: nobody waits any more; its place is free before the next step, and no more output comes."""
        for job in self._jobs:
            job.stream.is_closed = True
        self._stepper.end(self._jobs, "abort")


class Engine:
    """Generates for many at once.

    Args:
        load: loads the model, on the engine's own thread; `carpool.llm.open.open_engine` makes an engine of options.
        policy: how steps are formed.
        time_model: predicts how long a step takes, for objectives; learned from the steps alone by default.
        step_timeout_s: a step that takes longer is reported as trouble.
        sink: is told every event, besides `metrics`.
        clock: tells the time.
    """

    def __init__(
        self,
        load: Callable[[], Parts],
        *,
        policy: StepPolicy | None = None,
        time_model: StepTimeModel | None = None,
        step_timeout_s: float = 60.0,
        sink: LLMSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.policy = policy or StepPolicy()
        self.metrics = LLMMetrics()
        self.sinks: FanOut[LLMEvent] = FanOut(self.metrics, *(() if sink is None else (sink,)))
        self._load = load
        self._time_model = LearnedStepTime() if time_model is None else time_model
        self._clock = clock or SystemClock()
        self._watch = Watch(step_timeout_s, self._clock)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._opened = threading.Event()  # it steps, or never will
        self._parts: Parts | None = None
        self._stepper: Stepper | None = None
        self._trouble: CarpoolError | None = None
        self._failure: CarpoolError | None = None
        self._consumer: LoopConsumer | None = None  # of the loop that submitted last: mostly there is but one

    # ---------------------------------------------------------------------------------------------- life

    def start(self) -> Self:
        """Load the model, warm it up, and start to take generations; a second call does nothing.

        Raises:
            CarpoolError: the model could not be loaded or warmed up.
        """
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="carpool-llm", daemon=True)
                self._thread.start()
        self._opened.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def _live(self) -> None:
        """Live the life of the engine, on its own thread."""
        try:
            parts = self._load()
        except BaseException as error:  # noqa: BLE001 - raised again in start(), where somebody waits for it
            self._fail_to_start(error)
        else:
            self._step_on(parts)

    def _step_on(self, parts: Parts) -> None:
        try:
            parts.runner.warm_up()
            stepper = Stepper(parts, self.policy, self._clock, self.sinks, time_model=self._time_model)
        except BaseException as error:  # noqa: BLE001 - as above
            self._fail_to_start(error)
            return
        self._parts, self._stepper = parts, stepper
        self._watch.start()
        self._opened.set()
        try:
            while stepper.await_work():
                self._watch.begin(self, self._late)
                stepper.step()
                self._watch.end(self)
                self._trouble = None
        except BaseException as error:
            _logger.exception("unexpected failure, a fault in carpool: the engine stops")
            stepper.die(error)

    def _fail_to_start(self, error: BaseException) -> None:
        failure = told(error)
        if failure is not error:
            failure.__cause__ = error
        self._failure = self._failure or failure
        self._opened.set()

    def _late(self) -> None:
        took = format_duration(self._watch.timeout_s)
        self._trouble = ModelHung(
            f"a step has taken longer than step_timeout, {took}: raise it, or find out what the model waits for"
        )

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, take nothing more, and let the model go.

        Args:
            timeout_s: how long to wait for what was accepted; what then is left ends with `BatcherClosed`.
        """
        stepper, thread = self._stepper, self._thread
        if thread is None:
            return
        if stepper is None:
            self._fail_to_start(BatcherClosed("the engine was closed before its model was loaded: start another one"))
            return
        stepper.close()
        thread.join(timeout_s)
        if thread.is_alive():
            message = f"the engine was closed, and {timeout_s} s were not enough to finish: allow more time"
            stepper.abandon(BatcherClosed(message))
            thread.join(self._watch.timeout_s)
        stepper.failures.close()
        self._watch.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # --------------------------------------------------------------------------------------------- state

    @property
    def parts(self) -> Parts:
        """What was loaded.

        Raises:
            BatcherClosed: it has not started.
        """
        self._running()
        assert self._parts is not None, "it has started"
        return self._parts

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and steps run."""
        return self._stepper is not None and self.failure is None and self._trouble is None

    @property
    def accepts(self) -> bool:
        """Whether generations are taken."""
        return self._stepper is not None and self.failure is None

    @property
    def trouble(self) -> CarpoolError | None:
        """Why no step can run now, though one may again: it hangs; None while all is well."""
        return self._trouble

    @property
    def failure(self) -> CarpoolError | None:
        """What stopped it, or kept it from starting; None while all is well."""
        return self._failure or (self._stepper.failure if self._stepper else None)

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot."""
        return self._stepper.num_running if self._stepper else 0

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for one."""
        return self._stepper.num_waiting if self._stepper else 0

    @property
    def usage(self) -> float:
        """Share of the cache's blocks that sequences hold, 0 to 1."""
        return self._stepper.usage if self._stepper else 0.0

    def check_integrity(self) -> None:
        """Assert that no block and no sequence has been lost."""
        self._running().check_integrity()

    # --------------------------------------------------------------------------------------- generations

    def submit(
        self, generation: Generation, on_output: Callable[[Output], None], *, consumer: Consumer | None = None
    ) -> Handle:
        """Accept a generation.

        Args:
            generation: what is asked for.
            on_output: is called with what each step adds, never before this returns; each of the `n` sequences ends
                with an output that has a `finish_reason`, unless it was cancelled.
            consumer: where `on_output` is called; the running event loop by default, by one wake-up a step for all.

        Raises:
            InvalidItem: it can never fit, or holds what is no token of the model's.
            QueueFull: too many wait.
            BatcherClosed: the engine is not running.
            DispatcherDied: it failed.
            ConfigError: no event loop runs here, and no consumer was given.
        """
        stepper = self._running()
        return Handle(stepper.submit(generation, on_output, consumer or self._loop_consumer()), stepper)

    def compile(self, constraint: Constraint) -> None:
        """Read a constraint ahead of `submit`, which then finds it read: the first of a model may take a second.

        Raises:
            InvalidItem: it can't be read.
        """
        self._running().intake.constraints.matcher(constraint)

    def _loop_consumer(self) -> LoopConsumer:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "submit() was called where no event loop runs, and without a consumer: nobody would take the outputs; "
                "use carpool.LLM(...).generate in ordinary code"
            ) from None
        consumer = self._consumer
        if consumer is None or consumer.loop is not loop:
            consumer = self._consumer = LoopConsumer(loop)
        return consumer

    def _running(self) -> Stepper:
        if self._stepper is None:
            message = "the engine is not running: use it in a `with` or `async with` block, or call start() first"
            raise self._failure or BatcherClosed(message)
        return self._stepper
