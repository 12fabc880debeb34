"""The live LLM engine: one thread that plans steps, runs them, and hands out what came of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.core.clock import Clock
    from carpool.errors import CarpoolError
    from carpool.llm.consumer import Consumer
    from carpool.llm.outputs import Output
    from carpool.llm.parts import Parts
    from carpool.llm.request import Generation
    from carpool.signals.llm_events import LLMSink


class Handle:
    """A generation that was accepted."""

    def cancel(self) -> None:
        """Give it up: nobody waits any more; its place is free before the next step, and no more output comes."""
        raise NotImplementedError


class Engine:
    """Generates for many at once.

    Args:
        load: loads the model, on the engine's own thread; `carpool.llm.open.loader(options)` makes one of options.
        policy: how steps are formed.
        time_model: predicts how long a step takes; learned from the steps alone by default.
        step_timeout_s: a step that takes longer is reported as trouble.
        sink: is told every event, besides `metrics`.
        clock: tells the time.
    """

    def __init__(
        self,
        load: Callable[[], Parts],
        *,
        policy: Any = None,
        time_model: Any = None,
        step_timeout_s: float = 60.0,
        sink: LLMSink | None = None,
        clock: Clock | None = None,
    ) -> None:
        raise NotImplementedError

    def start(self) -> Self:
        """Load the model, warm it up, and start to take generations; a second call does nothing.

        Raises:
            CarpoolError: the model could not be loaded or warmed up.
        """
        raise NotImplementedError

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, take nothing more, and let the model go.

        Args:
            timeout_s: how long to wait for what was accepted; what then is left ends with `BatcherClosed`.
        """
        raise NotImplementedError

    @property
    def parts(self) -> Parts:
        """What was loaded; there once it has started."""
        raise NotImplementedError

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and steps run."""
        raise NotImplementedError

    @property
    def accepts(self) -> bool:
        """Whether generations are taken."""
        raise NotImplementedError

    @property
    def trouble(self) -> CarpoolError | None:
        """Why no step can run now, though one may again: it hangs; None while all is well."""
        raise NotImplementedError

    @property
    def failure(self) -> Exception | None:
        """What stopped it, or kept it from starting; None while all is well."""
        raise NotImplementedError

    @property
    def num_running(self) -> int:
        """Sequences that hold a slot."""
        raise NotImplementedError

    @property
    def num_waiting(self) -> int:
        """Sequences that wait for one."""
        raise NotImplementedError

    @property
    def usage(self) -> float:
        """Share of the cache's blocks that sequences hold, 0 to 1."""
        raise NotImplementedError

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
        raise NotImplementedError
