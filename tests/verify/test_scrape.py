"""Batch figures from a metrics page."""

import pytest

from carpool.errors import ConnectionFailed
from carpool.signals.events import BatchRan
from carpool.signals.export import prometheus_page
from carpool.signals.metrics import Metrics
from carpool.verify.scrape import between, parse_counts, read_counts


def page(*batches: tuple[int, ...]) -> str:
    """Return the page after batches of items of these lengths, each 2 ms in the queue and 10 ms in the model."""
    metrics = Metrics(max_batch_size=8)
    for number, lengths in enumerate(batches):
        metrics.record(
            BatchRan(
                at=number + 0.012,
                batch_id=number,
                worker=0,
                reason="idle",
                arrived_at=(float(number),) * len(lengths),
                lengths=lengths,
                padded_length=max(lengths),
                dispatched_at=number + 0.002,
                started_at=number + 0.002,
                finished_at=number + 0.012,
            )
        )
    return prometheus_page({("m", "1"): metrics}).decode()


def test_figures_between_two_readings_are_of_the_batches_between() -> None:
    """What ran before the first reading does not count."""
    before, after = parse_counts(page((5, 5))), parse_counts(page((5, 5), (4, 2), (3, 3, 3, 3)))
    figures = between(before, after)
    assert figures.mean_batch_size == pytest.approx(3.0)
    assert figures.fill_ratio == pytest.approx(6 / 16)
    assert figures.padding_waste == pytest.approx(2 / 20)
    assert figures.queue_delay_s == pytest.approx(0.002)
    assert figures.compute_s == pytest.approx(0.010)


def test_no_batches_give_no_figures() -> None:
    """Nothing ran: nothing is made up."""
    counts = parse_counts(page((5, 5)))
    assert between(counts, counts).mean_batch_size is None


def test_a_server_that_is_gone_is_told() -> None:
    """The error names the page and asks the right question."""
    with pytest.raises(ConnectionFailed, match="is the server still running"):
        read_counts("http://127.0.0.1:1")
