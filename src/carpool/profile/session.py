"""One model being profiled: every phase within its share of the budget, whatever was found kept however it ends."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.core import Policy
from carpool.errors import CarpoolError
from carpool.models.model import Model
from carpool.profile.artefact import EnergyFound, MemoryFound
from carpool.profile.breakdown import (
    StageTimer,
    smallest_launch_s,
    take_apart,
    time_admission,
    time_stages,
    whole_call,
)
from carpool.profile.budget import Budget
from carpool.profile.calls import ModelCaller
from carpool.profile.device import open_device
from carpool.profile.energy import Unreadable, find_meter
from carpool.profile.findings import Findings
from carpool.profile.idle import IdleTimer
from carpool.profile.items import Items, gather
from carpool.profile.machine import describe_machine
from carpool.profile.measure import Sweep, predict_s, time_shapes
from carpool.profile.memory import Search, shapes_to_probe, why_unfit
from carpool.profile.memory_limit import find_limit
from carpool.profile.mix import MixRunner
from carpool.profile.options import ProfileOptions
from carpool.profile.other_load import OtherLoad
from carpool.profile.peaks import measure_peaks
from carpool.profile.quality import compare_batches
from carpool.profile.shape import Shape
from carpool.profile.work import WorkCounter
from carpool.runtime.execute import run_checked
from carpool.runtime.fit_policy import fit_policy
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.profile.artefact import Profile
    from carpool.profile.probe_process import ProbeProcess
    from carpool.profile.worker import OneThread
    from carpool.report.progress import Progress

# When each phase must be over, as a share of the budget; what one leaves over, the next ones have.
MEMORY_UNTIL, PEAKS_UNTIL, SWEEP_UNTIL, IDLE_UNTIL, QUALITY_UNTIL, MIX_UNTIL = 0.20, 0.23, 0.66, 0.70, 0.74, 0.92
PEAKS_MOST_S = 1.5
# With less time than this the peaks are measured once, last: their large copies would take the time of the sweep.
PEAKS_TWICE_FROM_S = 10.0
MIX_SIZES = (1, 8, 16, 32, 64)
NUM_ADMITTED = 64
IDLE_LENGTHS = 2


@dataclass(slots=True)
class Session:
    """One model being profiled.

    Args:
        model: Loaded on the thread.
        options: What to measure.
        items: What to measure with.
        caller: Runs the model on the thread.
        found: What has been found.
        budget: Seconds for all of it.
    """

    model: Model
    options: ProfileOptions
    items: Items
    caller: ModelCaller
    found: Findings
    budget: Budget

    @classmethod
    def open(cls, model: Model, options: ProfileOptions, thread: OneThread, progress: Progress) -> Session:
        """Make the items and look at the machine; the budget begins now.

        Args:
            model: Loaded on the thread.
            options: What to measure.
            thread: Where the model runs.
            progress: Told how far it is.
        """
        budget = Budget(options.budget_s, progress)
        info = model.info
        items = gather(model, options.lengths, most_items=max(options.batch_sizes), seed=options.seed)
        device = open_device(info.device)
        meter = find_meter(info.device)
        policy = fit_policy(Policy(), model)
        readable = not isinstance(meter, Unreadable)
        found = Findings(
            info=info,
            machine=thread.call(lambda: describe_machine(info.device, info.dtype, info.num_threads)),
            options=options,
            lengths=items.lengths,
            typical_length=items.typical_length,
            length_buckets=policy.length_buckets,
            ragged=policy.ragged,
            token_buckets=policy.token_buckets,
            preferred_tokens=policy.token_budget,
            preferred_workers=model.preferred_workers,
            example_lengths=tuple(one.length for one in items.mix),
            energy=EnergyFound(source=meter.source)
            if not isinstance(meter, Unreadable)
            else EnergyFound(unavailable=meter.reason),
        )
        caller = ModelCaller(model, items.pools, thread, device, meter if readable else None)  # type: ignore[arg-type]
        found.energy_counts = caller.energy
        return cls(model, options, items, caller, found, budget)

    def run(self, prober: ProbeProcess | None, unavailable: str) -> Profile:
        """Go through all phases, and put together what they found.

        Args:
            prober: Probes memory; None where that can't be.
            unavailable: Why it can't.

        Raises:
            ModelError: Nothing could be measured; says what the model did.
            KeyboardInterrupt: Stopped before anything was measured.
        """
        try:
            self._memory(prober, unavailable)
            if self.options.budget_s >= PEAKS_TWICE_FROM_S:
                self._peaks()
            self._work()
            with self._watching_load():
                self._sweep()
            self._idle()
            self.found.fit()
            with self._watching_load():
                self._quality()
                self._mix()
                self._peaks()
                self._breakdown()
            self.found.complete = True
        except KeyboardInterrupt:
            if not self.found.sweep.timings() and not self.found.memory.probes:
                raise
        if self.found.complete:
            self.found.sweep.require_timings(f"batch of {self.model.info.target}")
        self.found.took_s = self.budget.gone_s
        self.budget.tell("")
        return self.found.profile()

    @contextmanager
    def _watching_load(self) -> Iterator[None]:
        """Note what other programs use meanwhile; the busier phase counts."""
        others = OtherLoad()
        try:
            yield
        finally:
            self.found.other_load_cores = max(self.found.other_load_cores, others.cores())

    def _memory(self, prober: ProbeProcess | None, unavailable: str) -> None:
        """Probe memory first, so that nothing that would not fit is ever run in this process."""
        if prober is None:
            self.found.memory = MemoryFound(unavailable=unavailable)
            return
        self.budget.tell("memory, in a process of its own")
        limit = find_limit(self.options.memory_limit_bytes, device=self.caller.device)
        search = Search(
            prober,
            limit_bytes=limit.limit_bytes,
            limit_source=limit.source,
            clock=self.budget.clock,
            until=self.budget.until(MEMORY_UNTIL),
        )
        try:
            search.run(shapes_to_probe(self.options.batch_sizes, self.items.lengths))
        finally:
            on_device = self.caller.device.is_accelerator
            self.found.memory = MemoryFound(
                what="allocator's peak on the device" if on_device else "peak of the process, libraries included",
                limit_bytes=limit.limit_bytes,
                limit_source=limit.source,
                probes=tuple(search.probes),
            )
            prober.stop()

    def _peaks(self) -> None:
        """Measure the peaks, before and after everything else: interference only lowers them, so the best counts."""
        self.budget.tell("peaks of the machine")
        info = self.model.info
        budget_s = min(PEAKS_MOST_S, (PEAKS_UNTIL - MEMORY_UNTIL) * self.options.budget_s)
        found = self.caller.thread.call(lambda: measure_peaks(info.device, info.dtype, budget_s=budget_s))
        self.found.peaks = found if self.found.peaks is None else self.found.peaks.best_of(found)

    def _work(self) -> None:
        """Count the work of a call of every length, while the model may still be run."""
        counter, thread = WorkCounter(self.model, self.items.pools), self.caller.thread
        for length in self.items.lengths:
            try:
                thread.call(lambda length=length: counter.count(Shape(1, length)))  # type: ignore[misc]
            except CarpoolError:  # a model that fails shows in the sweep, where it is told
                return
        self.found.work = counter.count

    def _sweep(self) -> None:
        wanted = [Shape(size, length) for size in self.options.batch_sizes for length in self.items.lengths]
        sweep, memory = self.found.sweep, self.found.memory
        fitting = []
        for shape in sorted(set(wanted)):
            reason = why_unfit(shape, memory.probes, limit_bytes=memory.limit_bytes)
            if reason:
                sweep.drop(shape, "memory", reason)
            else:
                fitting.append(shape)
        time_shapes(
            fitting,
            self.caller,
            sweep=sweep,
            clock=self.budget.clock,
            until=self.budget.until(SWEEP_UNTIL),
            rng=np.random.default_rng(self.options.seed),
            watch=self._tell_samples,
        )

    def _idle(self) -> None:
        """Time single items after pauses, at the lengths that most items are near."""
        self.budget.tell("calls after pauses")
        measured = [point.shape.length for point in self.found.sweep.points if point.shape.batch_size == 1]
        near = sorted(measured, key=lambda length: abs(length - self.items.typical_length))[:IDLE_LENGTHS]
        if near:
            timer = IdleTimer(time_s=self._time_once, pause=time.sleep, clock=self.budget.clock)
            found = self.caller.thread.call(lambda: timer.measure(near, until=self.budget.until(IDLE_UNTIL)))
            self.found.idle_penalties = found

    def _time_once(self, shape: Shape) -> float:
        return self.caller.time_payloads(self.items.pools[shape.length].take(shape.batch_size))

    def _tell_samples(self, sweep: Sweep) -> None:
        timing = f"timing: {counted(len(sweep.points), 'shape')}, {counted(sweep.num_samples, 'sample')}"
        self.budget.tell(timing if sweep.num_samples else "warming up")

    def _mix(self) -> None:
        """Measure mixed lengths, at 1 item and a few sizes up to the largest that was measured."""
        if not self.model.has_length:
            return
        model, until = self.found.cost_model, self.budget.until(MIX_UNTIL)
        largest = max((point.shape.batch_size for point in self.found.sweep.points), default=1)
        runner = MixRunner(
            run=self._run_s,
            padded_length=self.model.padded_length,
            rounded_total=self.model.rounded_total if self.model.ragged else None,
            clock=self.budget.clock,
            predict=model.clipped() if model else None,
        )
        sizes = [size for size in MIX_SIZES if size <= largest]
        mix, sizes = runner.affordable(self.items.mix, sizes, until - self.budget.clock())
        for size in sizes:
            self.budget.tell(f"mixed lengths in batches of {size}")
            point = runner.measure(mix, size, until=until)
            if point is not None:
                self.found.mix.append(point)

    def _run_s(self, payloads: list[Any]) -> float:
        return self.caller.thread.call(lambda: self.caller.time_payloads(payloads))

    def _quality(self) -> None:
        self.budget.tell("whether batching changes results")
        until, points = self.budget.until(QUALITY_UNTIL), self.found.sweep.points
        longest = max(self.items.lengths[0], 2 * self.items.typical_length)
        near = [one.payload for one in self.items.mix if one.length <= longest]
        sizes = sorted({point.shape.batch_size for point in points})

        def may_go_on(size: int) -> bool:
            return self.budget.clock() + predict_s(Shape(size, longest), points) <= until

        self.found.quality = compare_batches(
            lambda payloads: self.caller.thread.call(lambda: run_checked(self.model.run, payloads, len(payloads))),
            near or [one.payload for one in self.items.mix],
            sizes,
            dtype=self.model.info.dtype,
            may_go_on=may_go_on,
        )

    def _breakdown(self) -> None:
        """Take calls of one item, at the knee, and of the largest size apart."""
        self.budget.tell("where the time of a call goes")
        length = self.items.typical_length
        measured = [point.shape.batch_size for point in self.found.sweep.points if point.shape.length == length]
        knee = self.found.knee_at(length)
        sizes = sorted({min(measured), max(measured), *([knee.batch_size] if knee else [])}) if measured else []
        admit_s = time_admission(self.model, self.items.raw[:NUM_ADMITTED], self.budget.clock)
        shapes = [Shape(size, length) for size in sizes]
        if self.model.stages is None:
            self._whole_calls(shapes, admit_s)
        else:
            self._staged_calls(shapes, admit_s)

    def _whole_calls(self, shapes: list[Shape], admit_s: float) -> None:
        model = self.found.cost_model
        fixed_s = None
        if model is not None and self.items.typical_length in model.lengths:
            fixed_s = model.time_s(1, self.items.typical_length) * model.overhead_share(1, self.items.typical_length)
        times = {timing.shape: timing.time_s for timing in self.found.sweep.timings()}
        for shape in shapes:
            call_s = times[shape] if shape in times else model.time_s(shape.batch_size, shape.length) if model else 0.0
            self.found.parts.append(whole_call(shape, call_s, admit_s=admit_s, fixed_s=fixed_s))

    def _staged_calls(self, shapes: list[Shape], admit_s: float) -> None:
        timer = StageTimer(self.model, self.items.pools, self.caller.device, self.budget.clock)
        smallest = Shape(1, self.items.lengths[0])
        until = self.budget.until(1.0)
        wanted = list(dict.fromkeys([smallest, *shapes]))
        times = self.caller.thread.call(lambda: time_stages(timer, wanted, until=until))
        if smallest not in times or self.found.peaks is None:
            return
        launch_s = None
        if not self.caller.device.is_accelerator:
            launch_s = smallest_launch_s(times[smallest], self.found.work(smallest), self.found.peaks)
        for shape in shapes:
            if shape in times:
                least_s = self.found.peaks.least_s(self.found.work(shape))
                parts = take_apart(shape, times[shape], admit_s=admit_s, launch_s=launch_s, least_s=least_s)
                self.found.parts.append(parts)
