"""The figures of an LLM engine, folded from its events."""

from __future__ import annotations

import pytest

from carpool.signals.llm_events import SequenceEnded, SequenceRefused, StepFailed, StepRan
from carpool.signals.llm_metrics import LLMMetrics


def _step(**changes: float | tuple[float, ...]) -> StepRan:
    values: dict[str, float | tuple[float, ...]] = {
        "at": 1.1,
        "started_at": 1.0,
        "run_at": 1.01,
        "ran_at": 1.09,
        "num_tokens": 12,
        "num_sequences": 3,
        "num_sampled": 2,
    }
    return StepRan(**{**values, **changes})  # type: ignore[arg-type]


def _end(**changes: float | str | None) -> SequenceEnded:
    values: dict[str, float | str | None] = {
        "at": 5.0,
        "reason": "stop",
        "arrived_at": 1.0,
        "scheduled_at": 1.5,
        "first_token_at": 2.0,
        "num_prompt": 7,
        "num_generated": 4,
    }
    return SequenceEnded(**{**values, **changes})  # type: ignore[arg-type]


def test_steps_are_counted_with_what_they_took() -> None:
    """The model's time, and the whole step's."""
    metrics = LLMMetrics()
    metrics.record(_step(ttft_s=(0.3,), itl_s=(0.1, 0.2), num_prompt=10, prefix_queries=10, prefix_hits=4))
    metrics.record(_step(num_preempted=2, predicted_s=0.04))
    totals = metrics.totals()
    assert (totals.num_steps, totals.num_tokens, totals.num_generated_tokens) == (2, 24, 4)
    assert (totals.num_prompt_tokens, totals.num_preemptions) == (10, 2)
    assert (totals.prefix_queries, totals.prefix_hits) == (10, 4)
    assert totals.model_s == pytest.approx(0.16)
    assert totals.step_s == pytest.approx(0.2)
    assert totals.ttft.total == pytest.approx(0.3)
    assert totals.itl.num_values == 2
    assert totals.itl.total == pytest.approx(0.3)
    assert totals.prediction.mean == pytest.approx(2.0)
    assert totals.predicted_s == pytest.approx(0.04)
    assert totals.predicted_model_s == pytest.approx(0.08)


def test_time_per_token_counts_the_tokens_after_the_first() -> None:
    """TPOT = (end-to-end - TTFT) / (tokens - 1)."""
    metrics = LLMMetrics()
    metrics.record(_end())
    totals = metrics.totals()
    assert totals.tpot.total == pytest.approx((5.0 - 2.0) / 3)
    assert totals.e2e.total == pytest.approx(4.0)
    assert totals.queue_delay.total == pytest.approx(0.5)
    assert totals.endings == {"stop": 1}


def test_single_token_has_no_time_per_token() -> None:
    """There is no token after the first."""
    metrics = LLMMetrics()
    metrics.record(_end(num_generated=1, reason="length"))
    assert metrics.totals().tpot.num_values == 0
    assert metrics.totals().e2e.num_values == 1


def test_sequence_that_was_given_up_has_no_latency() -> None:
    """Nobody waited for its end; where it never ran it has no queue delay either."""
    metrics = LLMMetrics()
    metrics.record(_end(reason="abort", scheduled_at=None, first_token_at=None, num_generated=0))
    totals = metrics.totals()
    assert (totals.e2e.num_values, totals.tpot.num_values, totals.queue_delay.num_values) == (0, 0, 0)
    assert totals.endings == {"abort": 1}


def test_refusals_and_failures_are_counted() -> None:
    """Each by its reason."""
    metrics = LLMMetrics()
    metrics.record(SequenceRefused(at=1.0, reason="queue_full"))
    metrics.record(SequenceRefused(at=1.0, reason="invalid"))
    metrics.record(SequenceRefused(at=1.0, reason="invalid"))
    metrics.record(StepFailed(at=1.0, started_at=0.5, num_sequences=3, error="ValueError: no"))
    totals = metrics.totals()
    assert totals.refusals == {"queue_full": 1, "invalid": 2}
    assert totals.num_step_failures == 1
