"""OpenTelemetry traces through a batch: what a request waited for, and whom it ran with.

A request has a span from its arrival to its answer, in the trace that the client began where it sent a `traceparent`.
Below it stands a span for each batch that it was in, from its items' arrival to the end of the model's run, with a
link to the span of the batch. The batch has a trace of its own, since it belongs to many: its span links back.

Everything below the request's own span is made from events after the fact, so a batch that nobody traces costs nothing.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from carpool.signals.events import BatchRan
from carpool.signals.figures import padding_waste

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

    from carpool.signals.events import Event

__all__ = ["Traces", "exporting_to"]

# A batch is reported after its answers are on their way, so requests are known for a while after their end.
_MOST_KNOWN = 16_384
_FIRST_SERVER_ERROR = 500
_SERVER_FAULTS = frozenset({2, 4, 12, 13, 14, 15})  # what OpenTelemetry counts as a server's error among gRPC's codes


class Traces:
    """The spans of requests and batches.

    Args:
        processor: takes the finished spans.
        service: what the service is called in traces.
        share: share of the requests without a trace of their own that is traced, 0 to 1; a client's choice wins.
    """

    def __init__(self, processor: SpanProcessor, *, service: str = "carpool", share: float = 1.0) -> None:
        resource = Resource.create({"service.name": service})
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)), resource=resource, shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("carpool")
        self._read = TraceContextTextMapPropagator().extract
        self._known: OrderedDict[str, SpanContext] = OrderedDict()
        self._lock = threading.Lock()
        self._epoch_ns = time.time_ns() - time.perf_counter_ns()

    def begin(self, request_id: str, name: str, headers: Mapping[str, str]) -> Span:
        """Begin the span of a request.

        Args:
            request_id: as its items carry it.
            name: such as `POST /v2/models/{model}/infer`.
            headers: `traceparent` and `tracestate`, where the client sent them.
        """
        span = self._tracer.start_span(name, context=self._read(headers), kind=SpanKind.SERVER)
        if span.is_recording():
            span.set_attribute("carpool.request.id", request_id)
            with self._lock:
                self._known[request_id] = span.get_span_context()
                if len(self._known) > _MOST_KNOWN:
                    self._known.popitem(last=False)
        return span

    @staticmethod
    def end(span: Span, status: int) -> None:
        """End the span of a request that was answered with an HTTP status."""
        span.set_attribute("http.response.status_code", status)
        if status >= _FIRST_SERVER_ERROR:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    @staticmethod
    def end_call(span: Span, code: int) -> None:
        """End the span of a gRPC call that ended with a status code."""
        span.set_attribute("rpc.grpc.status_code", code)
        if code in _SERVER_FAULTS:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def of_model(self, model: str) -> BatchSpans:
        """Return the sink for the events of one model's batcher."""
        return BatchSpans(self, model)

    def record_batch(self, model: str, batch: BatchRan) -> None:
        """Make the spans of a batch that ran, if one of its requests is traced."""
        requests = self._traced(batch.request_ids)
        if not requests:
            return
        links = [Link(context) for context in requests.values()]
        span = self._tracer.start_span(
            f"batch {model}",
            context=Context(),
            links=links,
            start_time=self._wall_ns(batch.dispatched_at),
            attributes=_attributes(model, batch),
        )
        for request_id, context in requests.items():
            self._record_passage(model, batch, request_id, context, span.get_span_context())
        span.end(self._wall_ns(batch.finished_at))

    def _traced(self, request_ids: tuple[str, ...]) -> dict[str, SpanContext]:
        with self._lock:
            known = self._known
            return {request_id: known[request_id] for request_id in dict.fromkeys(request_ids) if request_id in known}

    def _record_passage(
        self, model: str, batch: BatchRan, request_id: str, request: SpanContext, of_batch: SpanContext
    ) -> None:
        """Make the span of one request's items on their way through a batch."""
        arrived_at = [at for at, its in zip(batch.arrived_at, batch.request_ids, strict=True) if its == request_id]
        span = self._tracer.start_span(
            f"items {model}",
            context=trace.set_span_in_context(trace.NonRecordingSpan(request)),
            links=[Link(of_batch)],
            start_time=self._wall_ns(min(arrived_at)),
            attributes={
                "carpool.num_items": len(arrived_at),
                "carpool.queue_delay_s": batch.dispatched_at - min(arrived_at),
                "carpool.compute_s": batch.finished_at - batch.started_at,
            },
        )
        span.end(self._wall_ns(batch.finished_at))

    def _wall_ns(self, at: float) -> int:
        """Turn an instant of the events' monotonic clock into time since 1970, in nanoseconds."""
        return self._epoch_ns + int(at * 1e9)

    def close(self, timeout_s: float = 1.0) -> None:
        """Export what is left, for so long: a collector that is away must not hold up a stop."""
        leaving = threading.Thread(target=self._provider.shutdown, name="carpool-traces", daemon=True)
        leaving.start()
        leaving.join(timeout_s)


class BatchSpans:
    """A sink that makes spans of one model's batches."""

    def __init__(self, traces: Traces, model: str) -> None:
        self._traces = traces
        self._model = model

    def record(self, event: Event) -> None:
        """Take one event; all but batches with named requests are passed over."""
        if isinstance(event, BatchRan) and event.request_ids:
            self._traces.record_batch(self._model, event)


def _attributes(model: str, batch: BatchRan) -> dict[str, str | int | float]:
    padded = batch.num_items * batch.padded_length
    attributes: dict[str, str | int | float] = {
        "carpool.model": model,
        "carpool.batch.id": batch.batch_id,
        "carpool.batch.size": batch.num_items,
        "carpool.batch.reason": batch.reason,
        "carpool.batch.padded_length": batch.padded_length,
        "carpool.batch.padding_waste": padding_waste(sum(batch.lengths), padded),
        "carpool.batch.num_failed": batch.num_failed,
        "carpool.worker": batch.worker,
        "carpool.queue_depth": batch.queue_depth,
        "carpool.compute_s": batch.finished_at - batch.started_at,
    }
    if batch.predicted_s is not None:
        attributes["carpool.predicted_s"] = batch.predicted_s
    return attributes


@contextmanager
def exporting_to(endpoint: str, *, share: float) -> Iterator[Traces]:
    """Send traces to an OpenTelemetry collector while the block runs; one that is away loses them, and harms nobody.

    Args:
        endpoint: such as `http://127.0.0.1:4318`; OTLP over HTTP at `/v1/traces` below it.
        share: share of the requests that is traced, where the client did not choose.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    traces = Traces(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=5)), share=share
    )
    try:
        yield traces
    finally:
        traces.close()
