"""The metrics page, read back by Prometheus' own parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from carpool.signals.end_to_end import EndToEnd
from carpool.signals.events import ItemDropped, ItemRejected
from carpool.signals.export import prometheus_page
from carpool.signals.metrics import Metrics
from tests.signals.records import batch

if TYPE_CHECKING:
    from prometheus_client import Metric


def families(metrics: dict[str, Metrics]) -> dict[str, Metric]:
    """The page's families by name; every model is of version 1."""
    return read(prometheus_page({(name, "1"): its for name, its in metrics.items()}))


def read(page: bytes) -> dict[str, Metric]:
    """A page's families by name."""
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def value(family: Metric, name: str, **labels: str) -> float:
    """The one sample of that name and labels; of version 1 where a model is named."""
    if "model" in labels:
        labels = {"version": "1"} | labels
    (found,) = (sample.value for sample in family.samples if sample.name == name and sample.labels == labels)
    return float(found)


def test_a_chain_of_models_has_its_own_items_and_latency_and_nothing_of_batches() -> None:
    """Beside those of its steps, under the same names."""
    ends = EndToEnd()
    ends.add(2, 0.25, failed=False)
    ends.add(1, 0.001, failed=True)
    found = read(prometheus_page({("m", "1"): filled()}, pipelines={("p", "1"): ends.freeze()}))
    assert value(found["carpool_items"], "carpool_items_total", model="p") == 3
    assert value(found["carpool_failed_items"], "carpool_failed_items_total", model="p") == 1
    latency = found["carpool_latency_seconds"]
    assert value(latency, "carpool_latency_seconds_count", model="p") == 2
    assert value(latency, "carpool_latency_seconds_sum", model="p") == 0.5
    assert value(latency, "carpool_latency_seconds_count", model="m") == 2
    assert {sample.labels["model"] for sample in found["carpool_batch_size"].samples} == {"m"}


def filled() -> Metrics:
    """Metrics of one batch of two, one refusal and one drop."""
    metrics = Metrics(max_batch_size=4, num_workers=2)
    metrics.record(batch((0.0, 0.1), start=0.2, end=0.3, reason="full", queue_depth=5, predicted_s=0.1))
    metrics.record(ItemRejected(at=0.3, reason="queue_full"))
    metrics.record(ItemDropped(at=0.3, arrived_at=0.1, cause="cancelled"))
    return metrics


def test_page_has_every_family_with_its_type() -> None:
    """Names carry units, counters and histograms are what they say."""
    kinds = {name: family.type for name, family in families({"m": filled()}).items()}
    assert kinds == {
        "carpool_batch_size": "histogram",
        "carpool_fill_ratio": "histogram",
        "carpool_padding_waste_ratio": "histogram",
        "carpool_queue_delay_seconds": "histogram",
        "carpool_compute_seconds": "histogram",
        "carpool_latency_seconds": "histogram",
        "carpool_prediction_ratio": "histogram",
        "carpool_items": "counter",
        "carpool_failed_items": "counter",
        "carpool_batch_failures": "counter",
        "carpool_tokens": "counter",
        "carpool_padded_tokens": "counter",
        "carpool_busy_seconds": "counter",
        "carpool_predicted_seconds": "counter",
        "carpool_predicted_busy_seconds": "counter",
        "carpool_profiled_seconds": "counter",
        "carpool_batches": "counter",
        "carpool_rejected_items": "counter",
        "carpool_dropped_items": "counter",
        "carpool_cache_lookups": "counter",
        "carpool_queue_depth": "gauge",
        "carpool_max_batch_size": "gauge",
        "carpool_workers": "gauge",
        "carpool_cost_model_drift_batches": "gauge",
        "carpool_cost_model_drift_ratio": "gauge",
    }


def test_values_are_those_that_were_counted() -> None:
    """Counts, sums and labels come through."""
    page = families({"m": filled()})
    assert value(page["carpool_batches"], "carpool_batches_total", model="m", reason="full") == 1
    assert value(page["carpool_rejected_items"], "carpool_rejected_items_total", model="m", reason="queue_full") == 1
    assert value(page["carpool_dropped_items"], "carpool_dropped_items_total", model="m", cause="cancelled") == 1
    assert value(page["carpool_queue_delay_seconds"], "carpool_queue_delay_seconds_count", model="m") == 2
    assert value(page["carpool_batch_size"], "carpool_batch_size_bucket", model="m", le="2.0") == 1
    assert value(page["carpool_batch_size"], "carpool_batch_size_bucket", model="m", le="1.0") == 0
    assert value(page["carpool_queue_depth"], "carpool_queue_depth", model="m") == 5
    assert value(page["carpool_workers"], "carpool_workers", model="m") == 2


def test_drift_is_shown_where_there_is_a_profile_to_drift_from() -> None:
    """One sample a model; a model without a profile has none."""
    with_profile = Metrics(max_batch_size=4)
    with_profile.record(batch((0.0,), start=0.2, end=0.3, drift=1.25, num_drift_batches=40))
    page = families({"m": with_profile, "n": filled()})
    assert value(page["carpool_cost_model_drift_ratio"], "carpool_cost_model_drift_ratio", model="m") == 1.25
    assert value(page["carpool_cost_model_drift_batches"], "carpool_cost_model_drift_batches", model="m") == 40
    assert len(page["carpool_cost_model_drift_ratio"].samples) == 1


def test_buckets_never_fall_and_end_in_the_count() -> None:
    """What Prometheus demands of a histogram."""
    for family in families({"m": filled()}).values():
        if family.type == "histogram":
            buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
            count = value(family, f"{family.name}_count", model="m")
            assert buckets == sorted(buckets)
            assert buckets[-1] == count


def test_each_model_has_its_own_samples() -> None:
    """Two models on one page do not mix, and a hostile name is escaped."""
    hostile = 'a"} 1\nb\\'
    page = families({"first": filled(), hostile: Metrics(max_batch_size=1)})
    assert value(page["carpool_items"], "carpool_items_total", model="first") == 2
    assert value(page["carpool_items"], "carpool_items_total", model=hostile) == 0


def test_pages_do_not_share_a_registry() -> None:
    """Asking twice gives the same page twice."""
    metrics = {("m", "1"): filled()}
    assert prometheus_page(metrics) == prometheus_page(metrics)


def test_versions_of_a_model_have_their_own_samples() -> None:
    """Two versions on one page do not mix."""
    page = read(prometheus_page({("m", "1"): filled(), ("m", "2"): Metrics(max_batch_size=1)}))
    assert value(page["carpool_items"], "carpool_items_total", model="m", version="1") == 2
    assert value(page["carpool_items"], "carpool_items_total", model="m", version="2") == 0


def test_requests_and_connections_are_those_of_the_server() -> None:
    """By method, pattern and status, so that a client's own words are no labels."""
    answered = {("POST", "/predict/{model}", 200): 7, ("POST", "/predict/{model}", 429): 2}
    page = read(prometheus_page({}, answered=answered, num_connections=3))
    name, labels = "carpool_http_requests_total", {"method": "POST", "path": "/predict/{model}"}
    assert value(page["carpool_http_requests"], name, **labels, status="200") == 7
    assert value(page["carpool_http_requests"], name, **labels, status="429") == 2
    assert value(page["carpool_http_connections"], "carpool_http_connections") == 3
