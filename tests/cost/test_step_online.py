"""A step's time, learned from the steps that ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool.core.cost import LearningStepTimeModel
from carpool.cost.step_cost import decode_work, joined, prefill_work
from carpool.cost.step_online import LearnedStepTime

if TYPE_CHECKING:
    from carpool.core.step import StepWork


def _true_s(work: StepWork) -> float:
    return 0.01 + 2e-4 * work.num_tokens + 1e-6 * work.kv_read + 1e-8 * work.prefill_pairs


def test_nothing_is_promised_before_a_step_ran() -> None:
    """So that no objective keeps a step small for no reason."""
    learned = LearnedStepTime()
    assert isinstance(learned, LearningStepTimeModel)
    assert learned.time_s(decode_work(64, 500)) == 0.0


def test_steps_of_both_kinds_are_learned() -> None:
    """From their mixture, other steps are predicted."""
    learned, chance = LearnedStepTime(), np.random.default_rng(1)
    for _ in range(100):
        work = decode_work(int(chance.integers(1, 64)), int(chance.integers(20, 900)))
        if chance.random() < 0.5:
            work = joined(work, prefill_work(int(chance.integers(2, 400)), int(chance.integers(0, 500))))
        learned.observe(work, _true_s(work))
    for work in (decode_work(32, 300), joined(decode_work(10, 100), prefill_work(256, 128))):
        assert learned.time_s(work) == pytest.approx(_true_s(work), rel=0.02)


def test_prompts_are_not_forgotten_while_only_single_tokens_run() -> None:
    """A thousand steps later a prompt costs what it did."""
    learned = LearnedStepTime()
    for size in range(2, 200, 3):
        learned.observe(prefill_work(size, 0), _true_s(prefill_work(size, 0)))
    for number in range(1000):
        work = decode_work(1 + number % 40, 100 + number)
        learned.observe(work, _true_s(work))
    assert learned.time_s(prefill_work(150, 0)) == pytest.approx(_true_s(prefill_work(150, 0)), rel=0.05)


def test_a_machine_that_becomes_slower_is_followed() -> None:
    """Old steps leave the window."""
    learned = LearnedStepTime()
    for factor in (1.0, 2.0):
        for number in range(100):
            work = decode_work(1 + number % 40, 100)
            learned.observe(work, factor * _true_s(work))
    assert learned.time_s(decode_work(20, 100)) == pytest.approx(2 * _true_s(decode_work(20, 100)), rel=0.02)


def test_few_steps_that_were_held_up_hardly_count() -> None:
    """Such as by another program."""
    learned = LearnedStepTime()
    for number in range(160):
        work = decode_work(1 + number % 40, 100)
        learned.observe(work, _true_s(work) * (20.0 if number % 10 == 0 else 1.0))
    assert learned.time_s(decode_work(20, 100)) == pytest.approx(_true_s(decode_work(20, 100)), rel=0.15)
