"""What a server says of its own batches between two moments, from its `/metrics` page."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from carpool.errors import ConnectionFailed
from carpool.signals.figures import fill_ratio, mean_batch_size, padding_waste

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 10.0
# The count that each sample of the page gives, by the sample's name, with its labels where they tell samples apart.
_SAMPLES = {
    "carpool_batch_size_count": "num_batches",
    "carpool_batch_size_sum": "num_items",
    "carpool_failed_items_total": "num_failed",
    "carpool_rejected_items_total": "num_refused",
    'carpool_dropped_items_total{cause="deadline"}': "num_expired",
    "carpool_tokens_total": "real_tokens",
    "carpool_padded_tokens_total": "padded_tokens",
    "carpool_queue_delay_seconds_sum": "queue_delay_s",
    "carpool_compute_seconds_sum": "compute_s",
    "carpool_latency_seconds_sum": "latency_s",
    "carpool_busy_seconds_total": "busy_s",
    "carpool_predicted_busy_seconds_total": "predicted_busy_s",
    "carpool_profiled_seconds_total": "profiled_s",
    "carpool_max_batch_size": "max_batch_size",
    "carpool_workers": "num_workers",
}
_LEVELS = frozenset({"max_batch_size", "num_workers"})  # what is so now, and not a running total


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Running totals of a server's one model.

    Args:
        num_batches: batches that ran.
        num_items: items in them.
        num_failed: items that were answered with an error, of runs that raised too.
        num_refused: items that were not accepted.
        num_expired: items whose deadline passed while they waited.
        real_tokens: tokens of the items.
        padded_tokens: tokens computed, padding included.
        queue_delay_s: arrival to dispatch, summed over items.
        compute_s: time of the model's runs, summed over batches.
        latency_s: arrival to the end of the model's run, summed over items.
        busy_s: time of the model's runs, failed ones too.
        predicted_busy_s: time of the runs that a cost model had predicted.
        profiled_s: what the profile says of those, whatever the server has learned since.
        max_batch_size: most items that a batch may hold now.
        num_workers: workers now.
    """

    num_batches: float = 0.0
    num_items: float = 0.0
    num_failed: float = 0.0
    num_refused: float = 0.0
    num_expired: float = 0.0
    real_tokens: float = 0.0
    padded_tokens: float = 0.0
    queue_delay_s: float = 0.0
    compute_s: float = 0.0
    latency_s: float = 0.0
    busy_s: float = 0.0
    predicted_busy_s: float = 0.0
    profiled_s: float = 0.0
    max_batch_size: float = 0.0
    num_workers: float = 0.0

    def since(self, before: Counts) -> Counts:
        """Return what was added to the totals of an earlier reading; levels are those of this one."""
        totals = {field.name: getattr(self, field.name) - getattr(before, field.name) for field in fields(Counts)}
        return Counts(**totals | {name: getattr(self, name) for name in _LEVELS})


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFigures:
    """What the batches between two moments were like; None where there were none.

    Args:
        mean_batch_size: items a batch.
        fill_ratio: of the largest batch.
        padding_waste: share of computed tokens that was padding.
        queue_delay_s: mean of an item's wait, arrival to dispatch.
        compute_s: mean of a batch's time in the model.
    """

    mean_batch_size: float | None
    fill_ratio: float | None
    padding_waste: float | None
    queue_delay_s: float | None
    compute_s: float | None


def read_counts(url: str) -> Counts:
    """Read the totals of the server at `url`.

    Raises:
        ConnectionFailed: it does not answer.
    """
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=TIMEOUT_S) as answer:  # noqa: S310 - our own server
            return parse_counts(answer.read().decode())
    except (urllib.error.URLError, OSError) as error:
        raise ConnectionFailed(f"{url}/metrics does not answer ({error}): is the server still running?") from error


def parse_counts(page: str) -> Counts:
    r"""Read the totals off a metrics page.

    >>> parse_counts("# TYPE carpool_batch_size histogram\ncarpool_batch_size_count 3\n").num_batches
    3.0
    """
    from prometheus_client.parser import text_string_to_metric_families

    totals = dict.fromkeys((field.name for field in fields(Counts)), 0.0)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            for name in _names(sample.name, sample.labels):
                if name in _SAMPLES:
                    totals[_SAMPLES[name]] += sample.value
    return Counts(**totals)


def _names(name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return what a sample may be called in `_SAMPLES`: its name alone, or with one of its labels."""
    return (name, *(f'{name}{{{label}="{value}"}}' for label, value in labels.items()))


def between(before: Counts, after: Counts) -> BatchFigures:
    """Say what the batches were like that ran between two readings."""
    return batch_figures(after.since(before))


def batch_figures(counts: Counts) -> BatchFigures:
    """Say what the batches were like that these counts are of."""
    num_batches, num_items = round(counts.num_batches), round(counts.num_items)
    if not num_batches:
        return BatchFigures(
            mean_batch_size=None, fill_ratio=None, padding_waste=None, queue_delay_s=None, compute_s=None
        )
    return BatchFigures(
        mean_batch_size=mean_batch_size(num_items, num_batches),
        fill_ratio=fill_ratio(num_items, round(counts.max_batch_size), num_batches=num_batches),
        padding_waste=padding_waste(round(counts.real_tokens), round(counts.padded_tokens)),
        queue_delay_s=counts.queue_delay_s / num_items,
        compute_s=counts.compute_s / num_batches,
    )
