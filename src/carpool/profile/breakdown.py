"""Where the time of one call goes.

Measured directly, each part alone with the device waited for, all of one call, the fastest of several:
    admit       preparing every item for itself: validation, tokenising (in a server, on the callers' threads)
    collate     stages.prepare: one padded batch of all payloads
    transfer    stages.to_device and stages.to_host
    compute     stages.compute, whole
    finish      stages.finish: the output split into one result an item
Inferred from measurements:
    launch      on an accelerator: the wall time of compute less the device's own time between two events. On a CPU,
                where launching and working are one: the time of compute on the smallest batch there is (one item
                of the shortest length), less what its arithmetic and its parameters take at the measured peaks. It
                is what a call costs however little it computes: Python, dispatch, allocation, threads that wake up,
                and that very small products run below the peak.
                It is taken to be the same for every shape, and never so much that the rest would pass the peaks.
    elsewhere   the whole call less all parts: what lies between the stages
A model without stages has admit, and its whole call; launch is then the `a` of the fitted `a + c b`, for the most part.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from carpool.cost.roofline import Breakdown
from carpool.errors import CarpoolError
from carpool.runtime.execute import translate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.models.model import Model
    from carpool.profile.calls import Pool
    from carpool.profile.device import Device
    from carpool.profile.peaks import MeasuredPeaks
    from carpool.profile.shape import Shape
    from carpool.profile.work import Work

MOST_ROUNDS, FEWEST_ROUNDS = 15, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class CallParts:
    """The seconds of one batch, part by part.

    Args:
        batch_size: Items in it.
        length: Padded tokens of each.
        admit_s: Preparing its items one by one.
        collate_s: Making one padded batch of them.
        to_device_s: To the device.
        launch_s: Launches and allocation: the part of compute that does not depend on the work.
        compute_s: The rest of compute: the device works.
        to_host_s: Back to the host.
        finish_s: Splitting the output.
        elsewhere_s: Between the stages.
        launch_is: How launch was found: `events`, `smallest call`, `fit` or `unknown`.
    """

    batch_size: int
    length: int
    admit_s: float
    collate_s: float
    to_device_s: float
    launch_s: float
    compute_s: float
    to_host_s: float
    finish_s: float
    elsewhere_s: float
    launch_is: str

    @property
    def total_s(self) -> float:
        """Seconds of the batch, admission included."""
        return self.host_s + self.transfer_s + self.launch_s + self.compute_s

    @property
    def call_s(self) -> float:
        """Seconds of the call alone, as a table of times has them."""
        return self.total_s - self.admit_s

    @property
    def working_s(self) -> float:
        """Seconds in which the device surely did all of the work: an inferred launch may hide some of it."""
        return self.compute_s + (0.0 if self.launch_is == "events" else self.launch_s)

    @property
    def host_s(self) -> float:
        """Seconds of the host's own work."""
        return self.admit_s + self.collate_s + self.finish_s + self.elsewhere_s

    @property
    def transfer_s(self) -> float:
        """Seconds of moving data to the device and back."""
        return self.to_device_s + self.to_host_s

    @property
    def overhead_s(self) -> float:
        """Seconds in which the device did none of the model's work."""
        return self.host_s + self.transfer_s + self.launch_s

    def as_breakdown(self) -> Breakdown:
        """Return the same in the four parts from which a bound is named."""
        return Breakdown(
            host_s=self.host_s, transfer_s=self.transfer_s, launch_s=self.launch_s, compute_s=self.compute_s
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTimes:
    """Seconds of each stage of a batch, and of a whole call."""

    collate_s: float
    to_device_s: float
    compute_s: float
    compute_device_s: float
    to_host_s: float
    finish_s: float
    call_s: float


class StageTimer:
    """Times the stages of a model's calls; use it on the thread that the model runs on.

    Args:
        model: A loaded model with stages.
        pools: Items by length.
        device: What is waited for.
        clock: Seconds from any origin.
    """

    def __init__(self, model: Model, pools: dict[int, Pool], device: Device, clock: Callable[[], float]) -> None:
        self._model, self._pools, self._device, self.clock = model, pools, device, clock

    def time(self, shape: Shape) -> StageTimes:
        """Time the stages of one call, and a whole call before it.

        Raises:
            CarpoolError: The model raised.
        """
        stages = self._model.stages
        assert stages is not None, "only a model with stages is timed by them"
        payloads = self._pools[shape.length].take(shape.batch_size)
        try:
            whole_s = self._device.timed(lambda: self._model.run(payloads))[1]
            host, collate_s, _ = self._device.timed(lambda: stages.prepare(payloads))
            on_device, to_device_s, _ = self._device.timed(lambda: stages.to_device(host))
            out, compute_s, compute_device_s = self._device.timed(lambda: stages.compute(on_device))
            on_host, to_host_s, _ = self._device.timed(lambda: stages.to_host(out))
            _, finish_s, _ = self._device.timed(lambda: stages.finish(on_host))
        except BaseException as error:
            raise translate(error, len(payloads)) from error
        return StageTimes(
            collate_s=collate_s,
            to_device_s=to_device_s,
            compute_s=compute_s,
            compute_device_s=compute_device_s,
            to_host_s=to_host_s,
            finish_s=finish_s,
            call_s=whole_s,
        )


def time_admission(model: Model, items: Sequence[Any], clock: Callable[[], float]) -> float:
    """Return the median seconds that the model takes to admit one item, each timed alone."""
    times_s = []
    for item in items:
        start = clock()
        model.admit(item)
        times_s.append(clock() - start)
    return median(times_s)


def smallest_launch_s(times: StageTimes, work: Work, peaks: MeasuredPeaks) -> float:
    """Infer what launching costs on a CPU, from the smallest call there is.

    Args:
        times: Of one item of the shortest length.
        work: Of that shape.
        peaks: Of this machine.
    """
    return max(0.0, times.compute_s - peaks.least_s(work))


def take_apart(
    shape: Shape, times: StageTimes, *, admit_s: float, launch_s: float | None, least_s: float = 0.0
) -> CallParts:
    """Put a shape's measured stages and the inferred launch together.

    Args:
        shape: The shape.
        times: Its stages.
        admit_s: Seconds to admit one item.
        launch_s: What launching costs by the smallest call; None where events on an accelerator tell.
        least_s: What its work takes at the machine's peaks: an inferred launch leaves that much of compute.
    """
    by_events = launch_s is None
    launch = times.compute_s - times.compute_device_s if launch_s is None else min(launch_s, times.compute_s - least_s)
    launch = max(0.0, launch)
    parts = times.collate_s + times.to_device_s + times.compute_s + times.to_host_s + times.finish_s
    return CallParts(
        batch_size=shape.batch_size,
        length=shape.length,
        admit_s=admit_s * shape.batch_size,
        collate_s=times.collate_s,
        to_device_s=times.to_device_s,
        launch_s=launch,
        compute_s=times.compute_s - launch,
        to_host_s=times.to_host_s,
        finish_s=times.finish_s,
        elsewhere_s=max(0.0, times.call_s - parts),
        launch_is="events" if by_events else "smallest call",
    )


def whole_call(shape: Shape, call_s: float, *, admit_s: float, fixed_s: float | None) -> CallParts:
    """Describe a call whose stages can't be told apart.

    Args:
        shape: The shape.
        call_s: Median seconds of the call.
        admit_s: Seconds to admit one item.
        fixed_s: What the fit says that every call costs; None without a fit.
    """
    launch = min(fixed_s or 0.0, call_s)
    return CallParts(
        batch_size=shape.batch_size,
        length=shape.length,
        admit_s=admit_s * shape.batch_size,
        collate_s=0.0,
        to_device_s=0.0,
        launch_s=launch,
        compute_s=call_s - launch,
        to_host_s=0.0,
        finish_s=0.0,
        elsewhere_s=0.0,
        launch_is="unknown" if fixed_s is None else "fit",
    )


def time_stages(timer: StageTimer, shapes: Sequence[Shape], *, until: float) -> dict[Shape, StageTimes]:
    """Time the stages of several shapes in turns, 3 to 15 times each, and keep the fastest of each.

    A shape that fails is left out, as is one whose turn never came.

    Args:
        timer: Times one call.
        shapes: Which, the most important first.
        until: When to stop, on the timer's clock; the first three rounds are finished where each shape had one before.
    """
    found: dict[Shape, list[StageTimes]] = {shape: [] for shape in shapes}
    for round_number in range(1 + MOST_ROUNDS):
        for shape in list(found):
            if timer.clock() >= until and (not found[shape] or round_number > FEWEST_ROUNDS):
                continue
            try:
                found[shape].append(timer.time(shape))
            except CarpoolError:
                del found[shape]
    # The first call of a shape warms up. Interference only lengthens calls, so the fastest is nearest to the truth.
    return {shape: min(times[1:], key=_total_s) for shape, times in found.items() if times[1:]}


def _total_s(times: StageTimes) -> float:
    return times.collate_s + times.to_device_s + times.compute_s + times.to_host_s + times.finish_s + times.call_s
