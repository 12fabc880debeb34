"""What other programs take of the processor, from made-up readings, and that real ones can be had."""

import os
from types import SimpleNamespace

import psutil
import pytest

from carpool.profile import other_load
from carpool.profile.other_load import OtherLoad
from tests.profile.virtual import VirtualTime


def load_after(seconds: float, *, busy_s: float, own_s: float) -> float:
    """The load of a while in which the cores were busy for so long, and this process used so much of it."""
    time, now = VirtualTime(), {"busy": 100.0, "own": 40.0}
    load = OtherLoad(clock=time, busy_s=lambda: now["busy"], own_s=lambda: now["own"])
    time.now += seconds
    now.update(busy=100.0 + busy_s, own=40.0 + own_s)
    return load.cores()


def test_load_is_what_was_busy_and_not_our_own() -> None:
    """Of 16 busy seconds in 10, our 6 leave one core to others."""
    assert load_after(10.0, busy_s=16.0, own_s=6.0) == pytest.approx(1.0)
    assert load_after(10.0, busy_s=5.9, own_s=6.0) == 0.0


def test_load_of_a_moment_is_not_told() -> None:
    """Processor time comes in hundredths: one of them in a thousandth of a second would be ten cores."""
    assert load_after(0.001, busy_s=0.01, own_s=0.0) == 0.0


def test_only_cores_that_may_be_used_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container with two cores of many, what runs on the others is no disturbance."""
    cores = [SimpleNamespace(user=10.0**number, system=0.0, idle=7.0, steal=0.5) for number in range(4)]
    monkeypatch.setattr(psutil, "cpu_times", lambda *, percpu: cores)
    monkeypatch.setattr(other_load, "_allowed", lambda: {0, 2})
    assert other_load._busy_s() == pytest.approx(1.0 + 100.0 + 2 * 0.5)
    monkeypatch.setattr(other_load, "_allowed", lambda: {2, 4})
    assert other_load._busy_s() == pytest.approx(1111.0 + 4 * 0.5)


def test_real_load_is_between_none_and_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs beside the tests."""
    monkeypatch.setattr(other_load, "LEAST_S", 0.0)
    assert 0.0 <= OtherLoad(clock=iter([0.0, 1e3]).__next__).cores() < 1.0
    assert other_load._allowed() <= set(range(os.cpu_count() or 1))
