"""What a server says of itself while it runs: its log, its traces, its events, and the count of its answers."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.serve.logs import logging_to
from carpool.serve.watch import RequestWatch
from carpool.signals.event_log import EventWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from carpool.config.settings import TelemetrySettings
    from carpool.signals.events import Sink
    from carpool.signals.tracing import Traces


class Telemetry:
    """Where a server's requests and batches are told.

    Args:
        watch: watches over requests.
        traces: makes spans of batches; None traces nothing.
        events: directory of the files of events; None keeps none.
    """

    def __init__(self, watch: RequestWatch, *, traces: Traces | None = None, events: Path | None = None) -> None:
        self.watch = watch
        self._traces = traces
        self._events = events
        self._writers: dict[str, EventWriter] = {}
        self._lock = threading.Lock()

    def sinks_of(self, model: str) -> tuple[Sink, ...]:
        """Return who is to be told of a model's events; a model that is loaded anew goes on in the same file."""
        found: list[Sink] = [] if self._traces is None else [self._traces.of_model(model)]
        if self._events is not None:
            with self._lock:
                if model not in self._writers:
                    self._writers[model] = EventWriter(self._events / f"{model}.jsonl")
                found.append(self._writers[model])
        return tuple(found)

    def close(self) -> None:
        """Write what is left."""
        for writer in self._writers.values():
            writer.close()


@contextmanager
def telemetry(settings: TelemetrySettings) -> Iterator[Telemetry]:
    """Say what the settings ask for while the block runs.

    Raises:
        ConfigError: a file can't be written, or what traces need is not installed.
    """
    with ExitStack() as stack:
        stack.enter_context(logging_to(settings.log_file, form=settings.log_format, access=settings.access_log))
        _require_directory(settings.events)
        traces = None if settings.traces is None else stack.enter_context(_exporting(settings))
        watch = RequestWatch(access=settings.access_log, traces=traces)
        telling = Telemetry(watch, traces=traces, events=settings.events)
        stack.callback(telling.close)
        yield telling


def _require_directory(events: Path | None) -> None:
    """Make the directory of events in one that there is, before anything is served."""
    if events is None:
        return
    try:
        events.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"can't write events to {str(events)!r}: {error}; name a directory in one that is there"
        ) from None
    if not os.access(events, os.W_OK):
        raise ConfigError(f"can't write events to {str(events)!r}: it may not be written to; name another directory")


def _exporting(settings: TelemetrySettings) -> AbstractContextManager[Traces]:
    assert settings.traces is not None, "asked before"
    try:
        from carpool.signals.tracing import exporting_to
    except ImportError as error:
        raise ConfigError(f"telemetry.traces needs {error.name}: run `pip install 'carpool[otel]'`") from None
    return exporting_to(settings.traces, share=settings.trace_share)
