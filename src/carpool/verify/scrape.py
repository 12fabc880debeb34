"""What a server says of its own batches between two moments, from its `/metrics` page."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass, fields

from carpool.errors import ConnectionFailed
from carpool.signals.figures import fill_ratio, mean_batch_size, padding_waste

TIMEOUT_S = 10.0
# Names of the samples on the page, by the count that they give.
_SAMPLES = {
    "carpool_batch_size_count": "num_batches",
    "carpool_batch_size_sum": "num_items",
    "carpool_tokens_total": "real_tokens",
    "carpool_padded_tokens_total": "padded_tokens",
    "carpool_queue_delay_seconds_sum": "queue_delay_s",
    "carpool_compute_seconds_sum": "compute_s",
    "carpool_max_batch_size": "max_batch_size",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Running totals of a server's one model; durations in seconds, summed over items (queue) or batches (compute)."""

    num_batches: float = 0.0
    num_items: float = 0.0
    real_tokens: float = 0.0
    padded_tokens: float = 0.0
    queue_delay_s: float = 0.0
    compute_s: float = 0.0
    max_batch_size: float = 0.0


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
            if sample.name in _SAMPLES:
                totals[_SAMPLES[sample.name]] += sample.value
    return Counts(**totals)


def between(before: Counts, after: Counts) -> BatchFigures:
    """Say what the batches were like that ran between two readings."""
    num_batches = round(after.num_batches - before.num_batches)
    num_items = round(after.num_items - before.num_items)
    if not num_batches:
        return BatchFigures(
            mean_batch_size=None, fill_ratio=None, padding_waste=None, queue_delay_s=None, compute_s=None
        )
    padded = round(after.padded_tokens - before.padded_tokens)
    return BatchFigures(
        mean_batch_size=mean_batch_size(num_items, num_batches),
        fill_ratio=fill_ratio(num_items, round(after.max_batch_size), num_batches=num_batches),
        padding_waste=padding_waste(round(after.real_tokens - before.real_tokens), padded),
        queue_delay_s=(after.queue_delay_s - before.queue_delay_s) / num_items,
        compute_s=(after.compute_s - before.compute_s) / num_batches,
    )
