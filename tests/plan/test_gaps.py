"""How far each objective is from being met: the distance, where the latency comes from, and what lowers it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from carpool.plan.gaps import gaps
from carpool.plan.predict import Interval, Prediction
from carpool.plan.slo import Gap, Verdict
from tests.plan.scenes import affine, poisson, search

if TYPE_CHECKING:
    from carpool.plan.search import SearchResult


@cache
def found() -> SearchResult:
    """Search for a policy at a middling load."""
    return search(affine(), poisson(200.0), "p99=50ms", items=300)


def gap(**changes: Interval | bool | tuple[Interval, ...]) -> Gap:
    """Return the gap of a prediction that is changed as told."""
    prediction: Prediction = replace(found().prediction, **changes)  # type: ignore[arg-type]
    return gaps(prediction, found().tried)[0]


def exactly(value: float) -> Interval:
    """Return an interval without width."""
    return Interval(value=value, low=value, high=value)


MISSED = exactly(0.5)


def test_a_promise_that_is_kept_says_by_how_much() -> None:
    """With the interval."""
    kept = gap(at_objectives_s=(Interval(value=0.03, low=0.028, high=0.033),))
    assert kept.verdict is Verdict.MET
    assert kept.sentence == "p99 is predicted at 30 ms (28 ms to 33 ms), 40% below the 50 ms promised."


@pytest.mark.parametrize(
    ("latency_s", "words"),
    [(0.06, "60 ms (60 ms to 60 ms), 20% above the 50 ms promised."), (0.2, "4 times the 50 ms promised.")],
)
def test_a_promise_that_is_missed_says_by_how_much(latency_s: float, words: str) -> None:
    """In per cent, or in times where it is far off."""
    missed = gap(at_objectives_s=(exactly(latency_s),), shares_within=(MISSED,))
    assert missed.verdict is Verdict.MISSED
    assert words in missed.sentence


def test_a_promise_that_may_be_kept_is_not_called_sure() -> None:
    """Where the interval reaches beyond it."""
    close = gap(
        at_objectives_s=(Interval(value=0.045, low=0.04, high=0.06),),
        shares_within=(Interval(value=0.993, low=0.98, high=0.999),),
    )
    assert close.verdict is Verdict.LIKELY
    assert "50 ms is kept in most windows but not for sure." in close.sentence


def test_refusals_count_against_it() -> None:
    """The latency of what is answered does not tell of what is not."""
    refused = gap(at_objectives_s=(exactly(0.03),), shares_within=(exactly(0.8),))
    assert "only 80.0% of what arrives is answered within 50 ms, and 99.0% should be." in refused.sentence


def test_a_queue_without_end_is_out_of_reach() -> None:
    """Its latency at the end of the window means nothing."""
    endless = gap(stable=False)
    assert endless.verdict is Verdict.MISSED
    assert "keeps growing, for more arrives than can be answered: 50 ms is out of reach." in endless.sentence


@pytest.mark.parametrize(
    ("busy", "waiting_s", "batch_size", "words"),
    [
        (0.95, 0.01, 4.0, "Workers are busy 95% of the time, so items queue and batches grow"),
        (0.5, 0.015, 4.0, "75% of the mean latency is waiting: more workers, a faster device or steadier arrivals"),
        (0.5, 0.005, 4.0, "(15 ms on average): smaller batches, shorter items or a faster device move it."),
        (0.5, 0.005, 1.0, "(15 ms on average): shorter items or a faster device move it."),
    ],
)
def test_what_moves_it_follows_from_where_the_time_goes(
    busy: float, waiting_s: float, batch_size: float, words: str
) -> None:
    """The load, the wait, or the batch itself."""
    missed = gap(
        shares_within=(MISSED,),
        utilisation=exactly(busy),
        mean_s=exactly(0.02),
        queue_delay_s=exactly(waiting_s),
        compute_s=exactly(0.015),
        mean_batch_size=exactly(batch_size),
    )
    assert words in missed.sentence


def test_a_knob_that_lowers_it_is_named() -> None:
    """Of what was tried."""
    tried = list(found().tried)
    faster = replace(tried[1], prediction=replace(tried[1].prediction, at_objectives_s=(exactly(1e-3),)))
    prediction = replace(found().prediction, shares_within=(MISSED,))
    assert "has it lowest, 9" in gaps(prediction, [tried[0], faster])[0].sentence
    assert "No other batch size, wait, token budget or padding" in gaps(prediction, tried[:1])[0].sentence


def test_without_objectives_there_is_no_gap() -> None:
    """Nothing was promised."""
    assert gaps(replace(found().prediction, objectives=()), found().tried) == ()
