"""The metrics page that Prometheus reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

    from carpool.signals.end_to_end import EndToEndTotals
    from carpool.signals.histogram import Histogram
    from carpool.signals.metrics import Metrics, Totals

__all__ = ["CONTENT_TYPE", "CallKey", "ModelKey", "OfOnePage", "RequestKey", "buckets_of", "prometheus_page"]

ModelKey = tuple[str, str]
"""A model's name and version."""
RequestKey = tuple[str, str, int]
"""A method, a path's pattern and the status of the answer."""

CallKey = tuple[str, int]
"""A gRPC method and the status code that a call of it ended with."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LABELS = ("model", "version")
_HISTOGRAMS = {
    "batch_size": ("carpool_batch_size", "Items in a batch."),
    "fill": ("carpool_fill_ratio", "Items of a batch over the most that it could hold."),
    "padding": ("carpool_padding_waste_ratio", "Share of a batch's computed tokens that was padding."),
    "queue_delay_s": ("carpool_queue_delay_seconds", "Arrival to dispatch, of each item."),
    "compute_s": ("carpool_compute_seconds", "Time in the model, of each batch."),
    "latency_s": ("carpool_latency_seconds", "Arrival to the end of the model's run, of each item."),
    "prediction": ("carpool_prediction_ratio", "Measured over predicted time, of each batch with a prediction."),
}
_COUNTERS = {
    "num_items": ("carpool_items", "Items answered, with a result or an error."),
    "num_failed": ("carpool_failed_items", "Items of them answered with an error."),
    "num_batch_failures": ("carpool_batch_failures", "Runs of a batch that raised."),
    "real_tokens": ("carpool_tokens", "Tokens of the items."),
    "padded_tokens": ("carpool_padded_tokens", "Tokens computed, padding included."),
    "busy_s": ("carpool_busy_seconds", "Time that workers spent in the model, in runs that raised too."),
    "predicted_s": ("carpool_predicted_seconds", "Time in the model that the cost model promised."),
    "predicted_busy_s": ("carpool_predicted_busy_seconds", "Time in the model of the batches that had a prediction."),
    "profiled_s": ("carpool_profiled_seconds", "Time in the model that the profile says of those batches."),
}
_END_TO_END = frozenset({"num_items", "num_failed", "latency_s"})  # what is counted of a chain of models too
_LABELLED_COUNTERS = {
    "reasons": ("carpool_batches", "reason", "Batches, by the reason that they left for."),
    "rejections": ("carpool_rejected_items", "reason", "Items refused at arrival, by reason."),
    "cache": ("carpool_cache_lookups", "answer", "Items by whether an equal one was answered or on its way."),
    "drops": ("carpool_dropped_items", "cause", "Items that left the queue uncomputed, by cause."),
}


def prometheus_page(
    metrics: Mapping[ModelKey, Metrics],
    *,
    pipelines: Mapping[ModelKey, EndToEndTotals] | None = None,
    answered: Mapping[RequestKey, int] | None = None,
    called: Mapping[CallKey, int] | None = None,
    num_connections: int | None = None,
    policies: Mapping[ModelKey, PolicyCount] | None = None,
    more: Iterable[Collector] = (),
) -> bytes:
    """Write the page, of content type `CONTENT_TYPE`, in Prometheus' text format.

    Args:
        metrics: the metrics of each model by its name and version, which become the labels `model` and `version`.
        pipelines: of each chain of models by its name and version, what was counted from arrival to the last answer.
        answered: how many requests were answered how.
        called: how many gRPC calls ended how.
        num_connections: open connections.
        policies: what became of each model's policies.
        more: what else there is to tell.
    """
    registry = CollectorRegistry()
    registry.register(_Models(metrics, pipelines or {}))
    registry.register(_Server(answered or {}, called or {}, num_connections))
    registry.register(_Policies(policies or {}))
    for collector in more:
        registry.register(collector)
    return generate_latest(registry)


class OfOnePage(Collector):
    """A collector whose registry lives for one page, so that no other can clash with it."""

    def describe(self) -> Iterator[Metric]:
        """Promise nothing."""
        return iter(())


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCount:
    """What became of the policies of a model.

    Args:
        version: the number of the one in force.
        on_trial: whether another one is on trial.
        changes: how many were put in force, and how many rolled back.
    """

    version: int
    on_trial: bool
    changes: Mapping[str, int]


class _Policies(OfOnePage):
    """Turns what became of policies into families."""

    def __init__(self, policies: Mapping[ModelKey, PolicyCount]) -> None:
        self._policies = policies

    def collect(self) -> Iterator[Metric]:
        """All families."""
        version = GaugeMetricFamily("carpool_policy_version", "Version of the policy in force.", labels=_LABELS)
        trial = GaugeMetricFamily("carpool_policy_on_trial", "Whether a policy is on trial.", labels=_LABELS)
        changes = CounterMetricFamily(
            "carpool_policy_changes", "Policies that were changed, by what became of them.", labels=[*_LABELS, "result"]
        )
        for model, count in self._policies.items():
            version.add_metric([*model], count.version)
            trial.add_metric([*model], count.on_trial)
            for result, num in sorted(count.changes.items()):
                changes.add_metric([*model, result], num)
        yield from (version, trial, changes) if self._policies else ()


class _Server(OfOnePage):
    """Turns what a server counts of its own into families; of what was not counted there is none."""

    def __init__(
        self, answered: Mapping[RequestKey, int], called: Mapping[CallKey, int], num_connections: int | None
    ) -> None:
        self._answered = answered
        self._called = called
        self._num_connections = num_connections

    def collect(self) -> Iterator[Metric]:
        """All families."""
        if self._answered:
            requests = CounterMetricFamily(
                "carpool_http_requests",
                "Requests answered; status 499 is of clients that left before.",
                labels=["method", "path", "status"],
            )
            for (method, path, status), num in sorted(self._answered.items()):
                requests.add_metric([method, path, str(status)], num)
            yield requests
        if self._called:
            calls = CounterMetricFamily("carpool_grpc_calls", "gRPC calls ended.", labels=["method", "code"])
            for (name, code), num in sorted(self._called.items()):
                calls.add_metric([name, str(code)], num)
            yield calls
        if self._num_connections is not None:
            yield GaugeMetricFamily("carpool_http_connections", "Open connections.", value=self._num_connections)


class _Models(OfOnePage):
    """Turns the totals of all models into families, one sample or histogram a model."""

    def __init__(self, metrics: Mapping[ModelKey, Metrics], pipelines: Mapping[ModelKey, EndToEndTotals]) -> None:
        self._metrics = metrics
        self._pipelines = pipelines

    def collect(self) -> Iterator[Metric]:
        """All families."""
        totals = {model: metrics.totals() for model, metrics in self._metrics.items()}
        yield from _histograms(totals, self._pipelines)
        yield from _counters(totals, self._pipelines)
        yield from _labelled_counters(totals)
        yield from self._gauges(totals)

    def _gauges(self, totals: Mapping[ModelKey, Totals]) -> Iterator[Metric]:
        depth = GaugeMetricFamily(
            "carpool_queue_depth", "Items waiting when the latest batch was done.", labels=_LABELS
        )
        limit = GaugeMetricFamily("carpool_max_batch_size", "Most items that a batch may hold.", labels=_LABELS)
        workers = GaugeMetricFamily("carpool_workers", "Workers that run batches.", labels=_LABELS)
        for model, metrics in self._metrics.items():
            depth.add_metric([*model], totals[model].queue_depth)
            limit.add_metric([*model], metrics.max_batch_size)
            workers.add_metric([*model], metrics.num_workers)
        yield from (depth, limit, workers)
        yield from _drifts(totals)


def _drifts(totals: Mapping[ModelKey, Totals]) -> Iterator[Metric]:
    ratio = GaugeMetricFamily(
        "carpool_cost_model_drift_ratio",
        "What batches take lately over what the profile says of them.",
        labels=_LABELS,
    )
    rests_on = GaugeMetricFamily(
        "carpool_cost_model_drift_batches", "Batches that the drift ratio rests on.", labels=_LABELS
    )
    for model, counted in totals.items():
        if counted.drift is not None:
            ratio.add_metric([*model], counted.drift)
            rests_on.add_metric([*model], counted.num_drift_batches)
    yield from (ratio, rests_on)


def _with_pipelines(
    field: str, totals: Mapping[ModelKey, Totals], pipelines: Mapping[ModelKey, EndToEndTotals]
) -> dict[ModelKey, Totals | EndToEndTotals]:
    """Return what has a field: a chain of models has but few, as it runs no batches itself."""
    return {**totals, **(pipelines if field in _END_TO_END else {})}


def _histograms(totals: Mapping[ModelKey, Totals], pipelines: Mapping[ModelKey, EndToEndTotals]) -> Iterator[Metric]:
    for field, (name, documentation) in _HISTOGRAMS.items():
        family = HistogramMetricFamily(name, documentation, labels=_LABELS)
        for model, counted in _with_pipelines(field, totals, pipelines).items():
            histogram: Histogram = getattr(counted, field)
            family.add_metric([*model], buckets=buckets_of(histogram), sum_value=histogram.total)
        yield family


def buckets_of(histogram: Histogram) -> list[tuple[str, float]]:
    """Return the values not above each bound, as families of histograms take them."""
    bounds = [floatToGoString(bound) for bound in histogram.bounds]  # type: ignore[no-untyped-call]
    return list(zip([*bounds, "+Inf"], histogram.cumulative(), strict=True))


def _counters(totals: Mapping[ModelKey, Totals], pipelines: Mapping[ModelKey, EndToEndTotals]) -> Iterator[Metric]:
    for field, (name, documentation) in _COUNTERS.items():
        family = CounterMetricFamily(name, documentation, labels=_LABELS)
        for model, counted in _with_pipelines(field, totals, pipelines).items():
            family.add_metric([*model], getattr(counted, field))
        yield family


def _labelled_counters(totals: Mapping[ModelKey, Totals]) -> Iterator[Metric]:
    for field, (name, label, documentation) in _LABELLED_COUNTERS.items():
        family = CounterMetricFamily(name, documentation, labels=[*_LABELS, label])
        for model, counted in totals.items():
            for value, num in sorted(getattr(counted, field).items()):
                family.add_metric([*model, value], num)
        yield family
