"""What a replica tells of itself, in virtual time."""

from __future__ import annotations

import pytest

from carpool.serve.ray.autoscale import Reading
from carpool.serve.ray.gauge import Gauge, Sight


def sight(num_arrived: int, *, delay_s: float = 0.0, item_s: float = 0.01) -> Sight:
    """See a model."""
    return Sight(num_arrived=num_arrived, delay_s=delay_s, item_s=item_s)


def test_load_is_what_arrives_times_what_an_item_takes() -> None:
    """30 items a second of 10 ms each are 0.3 of the workers' time."""
    gauge = Gauge(now=100.0)
    gauge.read([("m", sight(0))], now=101.0)
    assert gauge.read([("m", sight(60))], now=103.0).load == pytest.approx(0.3)


def test_the_first_reading_knows_no_past() -> None:
    """What had arrived before the first reading is no load of the moment between."""
    assert Gauge(now=0.0).read([("m", sight(1000, delay_s=0.2))], now=1.0) == Reading(delay_s=0.2, load=0.0)


def test_models_share_the_replica() -> None:
    """Their loads add up; the longest delay is told."""
    gauge = Gauge(now=0.0)
    gauge.read([("a", sight(0)), ("b", sight(0))], now=1.0)
    reading = gauge.read([("a", sight(10, delay_s=0.1)), ("b", sight(20, delay_s=0.4))], now=2.0)
    assert reading.delay_s == 0.4
    assert reading.load == pytest.approx(0.3)


def test_a_model_that_is_loaded_anew_counts_from_zero() -> None:
    """Fewer arrivals than before are no negative load."""
    gauge = Gauge(now=0.0)
    gauge.read([("m", sight(500))], now=1.0)
    assert gauge.read([("m", sight(3))], now=2.0).load == 0.0


def test_two_readings_at_one_instant_agree() -> None:
    """No time has passed: the load is the last one."""
    gauge = Gauge(now=0.0)
    gauge.read([("m", sight(0))], now=1.0)
    first = gauge.read([("m", sight(50))], now=2.0)
    assert gauge.read([("m", sight(50))], now=2.0) == first
