"""The fit of an LLM's step: it finds the truth that made the times, says how far it is off, and where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.sequence import Sequence
from carpool.core.step import Chunk, StepWork
from carpool.core.time_limit import work_of
from carpool.cost.step_cost import StepCost, StepMeasurement, decode_work, fit_step_cost, joined, prefill_work
from carpool.errors import ConfigError, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Callable

TERMS = (0.018, 1.2e-4, 2.5e-4, 6e-7, 2e-8)
WORKS = (
    *(decode_work(size, context) for size in (1, 2, 4, 8, 16, 32, 64) for context in (64, 256, 1024)),
    *(prefill_work(chunk, start) for chunk in (32, 128, 512) for start in (0, 512)),
    joined(decode_work(16, 256), prefill_work(128, 256)),
)


def truth_s(work: StepWork, terms: tuple[float, ...] = TERMS) -> float:
    """Seconds of a step by five terms."""
    values = (1.0, work.num_tokens, work.num_sequences, work.kv_read, work.prefill_pairs)
    return sum(term * value for term, value in zip(terms, values, strict=True))


def measured(time_s: Callable[[StepWork], float] = truth_s, spread: float = 0.01) -> list[StepMeasurement]:
    """Those steps, measured."""
    times = [(work, time_s(work)) for work in WORKS]
    return [StepMeasurement(work=work, time_s=t, low_s=t * (1 - spread), high_s=t * (1 + spread)) for work, t in times]


def fitted(**options: float) -> StepCost:
    """The fit to times that the truth made."""
    return fit_step_cost(measured(**options), measured_on={"device": "cpu"})  # type: ignore[arg-type]


def test_the_terms_that_made_the_times_are_found() -> None:
    """Each of the five, and nothing is left over."""
    cost = fitted()
    found = (cost.step_s, cost.token_s, cost.sequence_s, cost.kv_s, cost.pair_s)
    assert found == pytest.approx(TERMS, rel=1e-6)
    assert cost.error_pct == pytest.approx(0.0, abs=1e-6)
    assert cost.measured_on == {"device": "cpu"}


@given(st.tuples(*(st.floats(0.0, 1e-2) for _ in range(5))).filter(lambda terms: terms[0] > 1e-6))
def test_no_term_is_negative_and_what_is_seen_is_met(terms: tuple[float, ...]) -> None:
    """Whatever made the times, as long as no part of it takes less than no time."""
    cost = fit_step_cost(measured(lambda work: truth_s(work, terms)), measured_on={})
    assert min(cost.step_s, cost.token_s, cost.sequence_s, cost.kv_s, cost.pair_s) >= 0
    for work in WORKS:
        assert cost.time_s(work) == pytest.approx(truth_s(work, terms), rel=1e-4)


def test_the_error_is_that_of_steps_which_the_fit_had_not_seen() -> None:
    """By the same fits with another solver, one for each step left out."""
    from scipy.optimize import nnls

    rng = np.random.default_rng(1)
    factors = {work: float(rng.uniform(0.8, 1.25)) for work in WORKS}
    points = measured(lambda work: truth_s(work) * factors[work])
    cost = fit_step_cost(points, measured_on={})
    columns = [[1, w.num_tokens, w.num_sequences, w.kv_read, w.prefill_pairs] for w in WORKS]
    relative = np.array(columns) / np.array([[point.time_s] for point in points])
    errors = []
    for left_out in range(len(points)):
        rest = np.arange(len(points)) != left_out
        terms, _ = nnls(relative[rest], np.ones(rest.sum()), maxiter=1000)
        errors.append(abs(relative[left_out] @ terms - 1))
    assert cost.error_pct == pytest.approx(100 * np.median(errors), rel=1e-3)
    assert cost.worst_error_pct == pytest.approx(100 * max(errors), rel=1e-3)
    assert cost.worst_error_at == WORKS[int(np.argmax(errors))]
    assert cost.residual_sd > 0.05


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (decode_work(128, 64), "128 sequences in a step, measured up to 64"),
        (decode_work(64, 4096), "262,144 tokens of the cache read by a step, measured up to 65,536"),
        (prefill_work(1024, 0), "1,024 tokens in a step, measured up to 512"),
        (prefill_work(512, 4096), "pairs of tokens in the chunks of a step"),
    ],
)
def test_beyond_what_was_measured_it_refuses_and_a_scheduler_is_still_answered(work: StepWork, said: str) -> None:
    """With the value, the range and the remedy; prolonged, the line goes on."""
    cost = fitted()
    with pytest.raises(OutOfRange, match="profile again with larger --batch-sizes, --lengths or --chunks") as caught:
        cost.time_s(work)
    assert said in str(caught.value)
    assert cost.clipped().time_s(work) == pytest.approx(truth_s(work))


def test_the_interval_is_wider_where_less_is_known() -> None:
    """It holds the prediction, and error of measurement widens it."""
    work = decode_work(8, 64)
    narrow, wide = fitted(spread=0.01), fitted(spread=0.2)
    low_s, high_s = wide.time_interval_s(work)
    assert low_s < wide.time_s(work) < high_s
    assert high_s - low_s > 5 * (narrow.time_interval_s(work)[1] - narrow.time_interval_s(work)[0])


def test_the_knee_is_where_more_sequences_gain_little() -> None:
    """The rate there is within a twentieth of the best, and one sequence fewer is not."""
    cost = fitted()
    knee = cost.knee(256)
    rates = {size: cost.decode_rate(size, 256) for size in range(1, 65)}
    assert rates[knee] >= 0.95 * max(rates.values()) > rates[knee - 1]
    assert cost.most_sequences(2048) == 32  # as many as read what was measured of the cache


def test_work_of_several_parts_is_their_sum() -> None:
    """A step that decodes two and computes a piece of a prompt."""
    work = joined(decode_work(2, 10), prefill_work(8, 4, samples=False))
    assert work == StepWork(num_tokens=10, num_sequences=3, num_sampled=2, kv_read=20, prefill_pairs=64.0)
    assert prefill_work(1, 9) == decode_work(1, 10)  # a single token is one, whosesoever it is


def test_work_is_counted_as_the_scheduler_counts_it() -> None:
    """By the very function that its plans have theirs from."""
    sequence = Sequence(tokens=[0] * 40, max_new_tokens=1)
    chunks = [Chunk(sequence, 39, 1, samples=True), Chunk(sequence, 16, 24, samples=True), Chunk(sequence, 7, 1, True)]
    assert work_of(chunks) == joined(decode_work(1, 40), prefill_work(24, 16), prefill_work(1, 7))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (measured()[:2], "cannot fit a step's cost to 2 steps: it needs at least 3 that differ"),
        (measured()[:1] * 5, "cannot fit a step's cost to 5 steps"),
        (measured(lambda _: float("nan")), "must be positive and finite"),
        (measured(lambda _: 0.0), "must be positive and finite"),
    ],
)
def test_what_no_cost_can_be_fitted_to_is_refused(points: list[StepMeasurement], said: str) -> None:
    """Too few that differ, or times that cannot be."""
    with pytest.raises(ConfigError, match=said):
        fit_step_cost(points, measured_on={})
