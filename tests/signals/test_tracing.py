"""Traces: a request's span, its way through a batch, and the batch that it shared."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from carpool.signals.events import ItemRejected
from carpool.signals.tracing import Traces, exporting_to
from tests.signals.records import batch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
PARENT = {"traceparent": f"00-{TRACE_ID:032x}-b7ad6b7169203331-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID:032x}-b7ad6b7169203331-00"}


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Where the spans of a test end up."""
    return InMemorySpanExporter()


@pytest.fixture
def traces(spans: InMemorySpanExporter) -> Iterator[Traces]:
    """Traces of every request, unless the client says otherwise."""
    traces = Traces(SimpleSpanProcessor(spans))
    yield traces
    traces.close()


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    """The finished spans of a name, in the order of their ends."""
    return [span for span in spans.get_finished_spans() if span.name == name]


def test_a_request_continues_the_trace_of_its_client(traces: Traces, spans: InMemorySpanExporter) -> None:
    """The client's `traceparent` is the parent."""
    traces.end(traces.begin("r1", "POST /predict/{model}", PARENT), 200)
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert span.parent is not None
    assert span.context.trace_id == TRACE_ID
    assert span.parent.span_id == 0xB7AD6B7169203331
    assert span.attributes == {"carpool.request.id": "r1", "http.response.status_code": 200}


def test_requests_link_to_the_batch_that_they_shared(traces: Traces, spans: InMemorySpanExporter) -> None:
    """Two requests in two traces have a span each that links to the one batch, and the batch links back to both."""
    requests = [traces.begin("r1", "POST /a", PARENT), traces.begin("r2", "POST /a", {})]
    ran = batch((1.0, 1.5, 1.5), start=2.0, end=2.25, request_ids=("r1", "r2", "r2"))
    traces.of_model("m").record(ran)
    for request in requests:
        traces.end(request, 200)
    (of_batch,) = named(spans, "batch m")
    first, second = named(spans, "items m")
    contexts = [request.get_span_context() for request in requests]
    assert [link.context for link in of_batch.links] == contexts
    assert [span.parent for span in (first, second)] == contexts
    assert [[link.context for link in span.links] for span in (first, second)] == [[of_batch.context]] * 2
    assert first.attributes == {"carpool.num_items": 1, "carpool.queue_delay_s": 1.0, "carpool.compute_s": 0.25}
    assert second.attributes == {"carpool.num_items": 2, "carpool.queue_delay_s": 0.5, "carpool.compute_s": 0.25}
    assert first.start_time is not None
    assert first.end_time is not None
    assert first.end_time - first.start_time == pytest.approx(1.25e9)


def test_a_batch_says_why_it_left_and_what_it_cost(traces: Traces, spans: InMemorySpanExporter) -> None:
    """The figures that explain a batch are attributes of its span."""
    traces.begin("r1", "POST /a", {})
    traces.of_model("m").record(
        batch((1.0,), start=2.0, end=2.25, request_ids=("r1",), reason="timer", predicted_s=0.2, batch_id=7)
    )
    (of_batch,) = named(spans, "batch m")
    assert of_batch.attributes == {
        "carpool.model": "m",
        "carpool.batch.id": 7,
        "carpool.batch.size": 1,
        "carpool.batch.reason": "timer",
        "carpool.batch.padded_length": 16,
        "carpool.batch.padding_waste": pytest.approx(0.375),
        "carpool.batch.num_failed": 0,
        "carpool.worker": 0,
        "carpool.queue_depth": 0,
        "carpool.compute_s": 0.25,
        "carpool.predicted_s": 0.2,
    }


def test_what_the_client_does_not_sample_leaves_no_span(traces: Traces, spans: InMemorySpanExporter) -> None:
    """A request whose client decided against tracing is passed over, and so is a batch of only such."""
    traces.end(traces.begin("r1", "POST /a", UNSAMPLED), 200)
    sink = traces.of_model("m")
    sink.record(batch((1.0,), start=2.0, end=3.0, request_ids=("r1",)))
    sink.record(batch((1.0,), start=2.0, end=3.0))
    sink.record(ItemRejected(at=1.0, reason="queue_full"))
    assert spans.get_finished_spans() == ()


def test_a_share_of_the_requests_is_traced(spans: InMemorySpanExporter) -> None:
    """A share of 0 traces only those whose clients ask for it."""
    traces = Traces(SimpleSpanProcessor(spans), share=0.0)
    traces.end(traces.begin("r1", "POST /a", {}), 200)
    traces.end(traces.begin("r2", "POST /a", PARENT), 200)
    assert [span.attributes["carpool.request.id"] for span in spans.get_finished_spans() if span.attributes] == ["r2"]


def test_a_server_error_is_an_error_and_a_refusal_is_not(traces: Traces, spans: InMemorySpanExporter) -> None:
    """Status 500 and above marks the span; what the client did wrong does not."""
    for status in (200, 400, 503):
        traces.end(traces.begin("r", "POST /a", {}), status)
    assert [span.status.is_ok for span in spans.get_finished_spans()] == [True, True, False]


class _Collector(BaseHTTPRequestHandler):
    """Takes OTLP over HTTP as a collector does."""

    def do_POST(self) -> None:
        """Keep one export."""
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.received.append((self.path, ExportTraceServiceRequest.FromString(body)))  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def test_spans_reach_a_collector() -> None:
    """OTLP over HTTP: what is left is sent when the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Collector) as server:
        server.received = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with exporting_to(f"http://127.0.0.1:{server.server_port}/", share=1.0) as traces:
            traces.end(traces.begin("r1", "POST /a", {}), 200)
        server.shutdown()
        thread.join()
        ((path, export),) = server.received  # type: ignore[attr-defined]
    assert path == "/v1/traces"
    assert export.resource_spans[0].scope_spans[0].spans[0].name == "POST /a"
