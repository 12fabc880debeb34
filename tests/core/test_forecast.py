"""What is learned of arrivals."""

import math

import pytest

from carpool.core.forecast import ArrivalForecast


def closed_loop(
    forecast: ArrivalForecast, num_cycles: int, num_items: int, delay_s: float, start: float = 0.0
) -> float:
    """Let answers be followed by as many arrivals, a second apart; return the last completion."""
    for cycle in range(num_cycles):
        forecast.completed(num_items, start + cycle)
        for _ in range(num_items):
            forecast.arrived(start + cycle + delay_s)
    forecast.completed(num_items, start + num_cycles)
    return start + num_cycles


def test_nothing_is_expected_before_anything_happened() -> None:
    """No returns, and no next arrival."""
    forecast = ArrivalForecast(0.1)
    assert forecast.returns(0.0) == 0.0
    assert forecast.next_in_s(0.0) == math.inf


def test_clients_that_come_back_are_expected_back() -> None:
    """After a few rounds of a closed loop nearly all of the answered are expected, fewer with each that arrives."""
    forecast = ArrivalForecast(0.1)
    now = closed_loop(forecast, 20, 8, 0.01)
    assert forecast.returns(now) == pytest.approx(8, abs=0.1)
    for _ in range(3):
        forecast.arrived(now + 0.01)
    assert forecast.returns(now + 0.01) == pytest.approx(5, abs=0.1)


def test_nobody_is_expected_after_the_window() -> None:
    """Who has not come back within the longest wait is not waited for."""
    forecast = ArrivalForecast(0.1)
    now = closed_loop(forecast, 20, 8, 0.01)
    assert forecast.returns(now + 0.1) == 0.0


def test_late_arrivals_are_no_returns() -> None:
    """Arrivals long after the completion teach that nobody comes back."""
    forecast = ArrivalForecast(0.1)
    now = closed_loop(forecast, 20, 8, 0.5)
    assert forecast.returns(now) == 0.0


def test_half_an_item_is_nobody() -> None:
    """Small expectations are none."""
    forecast = ArrivalForecast(0.1)
    now = closed_loop(forecast, 20, 8, 0.01)
    for _ in range(8):
        forecast.arrived(now)
    assert forecast.returns(now) == 0.0


def test_completions_of_two_workers_do_not_hide_each_other() -> None:
    """Two workers that complete at nearly one instant have both their clients come back."""
    forecast = ArrivalForecast(0.1, num_workers=2)
    for cycle in range(20):
        forecast.completed(8, float(cycle))
        forecast.completed(4, cycle + 0.001)
        for _ in range(12):
            forecast.arrived(cycle + 0.01)
    forecast.completed(8, 20.0)
    forecast.completed(4, 20.001)
    assert forecast.returns(20.002) == pytest.approx(12, abs=0.2)


def test_mean_gap_follows_the_arrivals() -> None:
    """Strangers are expected a mean gap apart."""
    forecast = ArrivalForecast(0.1)
    for number in range(100):
        forecast.arrived(number * 0.02)
    assert forecast.next_in_s(0.0) == pytest.approx(0.02)


def test_many_returns_follow_each_other_closely() -> None:
    """Eight that come back 10 ms after their answer are 1.25 ms apart or less."""
    forecast = ArrivalForecast(0.1)
    closed_loop(forecast, 50, 8, 0.01)
    assert forecast.next_in_s(8.0) <= 0.01 / 8 + 1e-9


def test_quiet_begins_with_the_last_event() -> None:
    """Arrivals and completions both end a silence."""
    forecast = ArrivalForecast(0.1)
    forecast.arrived(1.0)
    assert forecast.quiet_since == 1.0
    forecast.completed(1, 2.0)
    assert forecast.quiet_since == 2.0
