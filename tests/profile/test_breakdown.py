"""Calls taken apart, with stages that take known times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from carpool.models.model import Admitted, Model, ModelInfo, Results, Stages
from carpool.profile.breakdown import (
    StageTimer,
    StageTimes,
    smallest_launch_s,
    take_apart,
    time_admission,
    time_stages,
    whole_call,
)
from carpool.profile.calls import Pool
from carpool.profile.device import Host
from carpool.profile.peaks import MeasuredPeaks
from carpool.profile.shape import Shape
from carpool.profile.work import Work
from tests.profile.virtual import VirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PEAKS = MeasuredPeaks(
    flops_per_s=1e9,
    matrix_size=1024,
    bytes_per_s=1e9,
    to_device_bytes_per_s=None,
    to_host_bytes_per_s=None,
    dtype="float32",
    library="numpy",
)


class StagedModel(Model):
    """Stages of 1, 2, 5 + 4 an item, 3 and 1 ms, and 2 ms between them."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time

    @property
    def info(self) -> ModelInfo:
        """A name."""
        return ModelInfo(name="staged", kind="function", target="staged")

    @property
    def stages(self) -> Stages:
        """Each takes its time."""
        return Stages(*(self._takes(*cost) for cost in ((1e-3, 0), (2e-3, 0), (5e-3, 4e-3), (3e-3, 0), (1e-3, 0))))

    def _takes(self, base_s: float, item_s: float) -> Callable[[Any], Any]:
        def stage(batch: Any) -> Any:
            self._time.now += base_s + item_s * len(batch)
            return batch

        return stage

    def load(self) -> None:
        """Nothing to load."""

    def admit(self, item: object) -> Admitted:
        """Take half a ms."""
        self._time.now += 5e-4
        return Admitted(item)

    def run(self, payloads: Sequence[Any]) -> Results:
        """Run the stages, and two ms between them."""
        self._time.now += 2e-3
        return self.stages.run(payloads)


def test_parts_are_those_of_the_stages() -> None:
    """Every stage's time is found, what lies between them too, and the parts add up."""
    time = VirtualTime()
    model = StagedModel(time)
    timer = StageTimer(model, {1: Pool([0])}, Host(clock=time), time)
    times = timer.time(Shape(8))
    parts = take_apart(Shape(8), times, admit_s=time_admission(model, [1, 2], time), launch_s=5e-3)
    assert parts.admit_s == pytest.approx(4e-3)
    assert [parts.collate_s, parts.to_device_s] == pytest.approx([1e-3, 2e-3])
    assert [parts.launch_s, parts.compute_s] == pytest.approx([5e-3, 32e-3])
    assert [parts.to_host_s, parts.finish_s] == pytest.approx([3e-3, 1e-3])
    assert parts.elsewhere_s == pytest.approx(2e-3)
    assert parts.total_s == pytest.approx(4e-3 + 2e-3 + 1e-3 + 2e-3 + 37e-3 + 3e-3 + 1e-3)
    assert parts.as_breakdown().total_s == pytest.approx(parts.total_s)
    assert parts.overhead_s == pytest.approx(parts.total_s - 32e-3)


def test_launch_is_what_the_smallest_call_takes_beyond_its_work() -> None:
    """Of 9 ms at one item, 3 ms of arithmetic and 2 ms of reading overlap: 6 ms are left."""
    time = VirtualTime()
    timer = StageTimer(StagedModel(time), {1: Pool([0])}, Host(clock=time), time)
    times = timer.time(Shape(1))
    assert smallest_launch_s(times, Work(flops=3e6, num_bytes=2e6), PEAKS) == pytest.approx(6e-3)
    assert smallest_launch_s(times, Work(flops=1e12), PEAKS) == 0.0


def test_inferred_launch_leaves_the_time_that_the_work_takes_at_the_peaks() -> None:
    """A launch that a disturbed smallest call overstates does not make the rest faster than the machine can be."""
    time = VirtualTime()
    times = StageTimer(StagedModel(time), {1: Pool([0])}, Host(clock=time), time).time(Shape(1))
    work = Work(flops=3e6, num_bytes=2e6)
    parts = take_apart(Shape(1), times, admit_s=0.0, launch_s=30e-3, least_s=PEAKS.least_s(work))
    assert (parts.launch_s, parts.compute_s) == pytest.approx((6e-3, 3e-3))
    assert parts.working_s == pytest.approx(9e-3)
    assert parts.call_s == pytest.approx(parts.total_s)
    none_left = take_apart(Shape(1), times, admit_s=0.0, launch_s=30e-3, least_s=1.0)
    assert (none_left.launch_s, none_left.compute_s) == pytest.approx((0.0, 9e-3))


def test_call_without_stages_takes_its_overhead_from_the_fit() -> None:
    """The fitted fixed cost is the launch, and never more than the call."""
    parts = whole_call(Shape(4), 10e-3, admit_s=1e-3, fixed_s=6e-3)
    assert [parts.launch_s, parts.compute_s] == pytest.approx([6e-3, 4e-3])
    assert parts.launch_is == "fit"
    assert whole_call(Shape(1), 1e-3, admit_s=0.0, fixed_s=6e-3).compute_s == 0.0


def test_shapes_are_timed_in_turns_and_the_fastest_counts() -> None:
    """Calls that something else slowed down do not count, and a shape that had no turn is left out."""
    time = VirtualTime()
    model = StagedModel(time)
    slow = iter([0.5, 0.0, 0.3] + [0.0] * 100)

    class Timer(StageTimer):
        def time(self, shape: Shape) -> StageTimes:
            """Be slow at times."""
            times = super().time(shape)
            return replace(times, compute_s=times.compute_s + next(slow))

    timer = Timer(model, {1: Pool([0])}, Host(clock=time), time)
    found = time_stages(timer, [Shape(1), Shape(8)], until=time.now + 10.0)
    assert found[Shape(1)].compute_s == pytest.approx(9e-3)
    assert found[Shape(8)].compute_s == pytest.approx(37e-3)
    assert time_stages(timer, [Shape(1)], until=time.now) == {}
