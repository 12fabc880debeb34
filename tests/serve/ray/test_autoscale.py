"""How many replicas there should be: pure, and in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from carpool.serve.ray.autoscale import DELAY, LOAD, ByPredictedDelay, Reading, num_replicas_for, read

TARGET_S = 0.1
READINGS = st.builds(Reading, delay_s=st.floats(0, 60, allow_nan=False), load=st.floats(0, 50, allow_nan=False))


def wanted(delay_s: float, load: float, current: int) -> int:
    """How many there should be where all replicas tell the same; the load is of all of them together."""
    readings = [Reading(delay_s=delay_s, load=load / current)] * current
    return num_replicas_for(readings, current=current, target_delay_s=TARGET_S)


def test_requests_that_wait_too_long_get_more_replicas() -> None:
    """Half as long again as is meant: half as many again."""
    assert wanted(1.5 * TARGET_S, load=2.0, current=4) == 6


def test_a_flood_at_most_doubles_them_at_a_time() -> None:
    """A minute's queue in two replicas does not ask for a thousand."""
    assert wanted(60.0, load=90.0, current=2) == 4


def test_requests_that_wait_as_is_meant_change_nothing() -> None:
    """Between half of the target and all of it nothing happens, however small the load."""
    assert wanted(0.8 * TARGET_S, load=0.1, current=3) == 3


def test_replicas_go_one_by_one_once_the_others_can_carry_the_load() -> None:
    """Five replicas with the load of two: four, and not two at once."""
    assert wanted(0.0, load=1.5, current=5) == 4


def test_a_replica_that_is_needed_stays_although_nobody_waits() -> None:
    """Short queues under a load that one fewer could not carry are the replicas' merit."""
    assert wanted(0.0, load=2.9 * 0.8, current=3) == 3


def test_the_last_replica_stays() -> None:
    """An idle deployment keeps one."""
    assert wanted(0.0, load=0.0, current=1) == 1


def test_nothing_told_changes_nothing() -> None:
    """Replicas that still start have told nothing: their number stays."""
    assert num_replicas_for([], current=3, target_delay_s=TARGET_S) == 3


def test_the_silent_are_taken_to_do_as_the_others() -> None:
    """One of two has told a load of 0.9: the other is taken to carry as much, so none goes."""
    assert num_replicas_for([Reading(delay_s=0.0, load=0.9)], current=2, target_delay_s=TARGET_S) == 2


@given(readings=st.lists(READINGS, max_size=8), current=st.integers(1, 64))
def test_a_step_is_never_wild(readings: list[Reading], current: int) -> None:
    """Never none, never more than twice as many, never more than one fewer."""
    assert max(1, current - 1) <= num_replicas_for(readings, current=current, target_delay_s=TARGET_S) <= 2 * current


@dataclass
class Cluster:
    """Replicas of a known capacity, a second at a time; a decision must last as long as Ray is told."""

    capacity: float = 100.0  # items a second in full batches
    num: int = 1
    queue: float = 0.0
    history: list[int] = field(default_factory=list)

    def run(self, rate: float, seconds: int) -> list[int]:
        """Take a steady rate for a while; return how many replicas there were in each second."""
        start = len(self.history)
        lower_for = 0
        for _ in range(seconds):
            self.queue = max(0.0, self.queue + rate - self.capacity * self.num)
            delay_s = self.queue / self.num / self.capacity
            reading = Reading(delay_s=delay_s, load=rate / self.num / self.capacity)
            aim = num_replicas_for([reading] * self.num, current=self.num, target_delay_s=TARGET_S)
            lower_for = lower_for + 1 if aim < self.num else 0
            if aim > self.num or lower_for >= 30:
                self.num, lower_for = aim, 0
            self.history.append(self.num)
        return self.history[start:]


def test_a_steady_load_settles_and_stays() -> None:
    """The rush at the start brings up more than are needed; after ten minutes there are six, and then no change."""
    numbers = Cluster().run(rate=480.0, seconds=1200)
    assert max(numbers) > 6
    assert set(numbers[600:]) == {6}


def test_a_load_that_falls_lets_replicas_go() -> None:
    """What a rush brought up goes within minutes of its end, down to what is needed."""
    cluster = Cluster()
    assert max(cluster.run(rate=480.0, seconds=300)) >= 5
    assert cluster.run(rate=60.0, seconds=600)[-1] == 1


def test_ray_is_told_what_the_rule_says() -> None:
    """Metrics by name and replica become readings; a replica that told no load counts as having none."""
    metrics = {DELAY: {"a": 0.3, "b": 0.1}, LOAD: {"a": 0.9}}
    assert read(metrics) == [Reading(delay_s=0.3, load=0.9), Reading(delay_s=0.1, load=0.0)]
    context = SimpleNamespace(aggregated_metrics=metrics, current_num_replicas=2)
    assert ByPredictedDelay(target_delay_s=TARGET_S)(context) == (4, {})
