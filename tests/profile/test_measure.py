"""Timing within a budget: what it recovers, in which order, and what it leaves out."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.cost.model import fit_cost_model
from carpool.errors import ModelError, OutOfMemory
from carpool.profile.findings import as_measurement
from carpool.profile.measure import (
    FEWEST_SAMPLES,
    LEAST_SAMPLES,
    Samples,
    Sweep,
    explore,
    repeat,
    summarise,
    time_shapes,
)
from carpool.profile.shape import Shape
from tests.profile.virtual import VirtualCaller, VirtualTime

SIZES = (1, 2, 4, 8, 16, 32, 64)


def measure(caller: VirtualCaller, shapes: list[Shape], *, budget_s: float, seed: int = 0) -> Sweep:
    """Explore and repeat, as a profile does."""
    sweep, until = Sweep(), caller.time() + budget_s
    explore(shapes, caller, sweep=sweep, clock=caller.time, until=until)
    repeat(caller, sweep=sweep, clock=caller.time, until=until, rng=np.random.default_rng(seed))
    return sweep


def linear(shape: Shape, _: float) -> float:
    """Two ms a call, and 0.1 ms a token."""
    return 2e-3 + 1e-4 * shape.num_tokens


def test_known_cost_is_recovered_through_noise() -> None:
    """Noisy calls of 2 ms + 1 ms an item are fitted to within a few per cent."""
    noise = np.random.default_rng(1)
    caller = VirtualCaller(
        VirtualTime(), lambda shape, _: float((2e-3 + 1e-3 * shape.batch_size) * noise.lognormal(0.0, 0.05))
    )
    sweep = measure(caller, [Shape(size) for size in SIZES], budget_s=20.0)
    model = fit_cost_model([as_measurement(timing) for timing in sweep.timings()], measured_on={})
    for size in SIZES:
        assert model.time_s(size) == pytest.approx(2e-3 + 1e-3 * size, rel=0.05)
    assert model.error_pct < 5.0


def test_the_scatter_of_single_calls_is_told_whatever_their_shape() -> None:
    """Its quantiles are those of the noise, which is the same for all; a handful of calls tells nothing."""
    noise = np.random.default_rng(2)
    caller = VirtualCaller(VirtualTime(), lambda shape, _: linear(shape, 0.0) * float(noise.lognormal(0.0, 0.1)))
    sweep = measure(caller, [Shape(size) for size in SIZES], budget_s=20.0)
    spread = sweep.call_spread()
    assert len(spread) == 101
    assert [spread[q] for q in (5, 50, 95)] == pytest.approx(np.exp([-0.1645, 0.0, 0.1645]).tolist(), rel=0.03)
    few = measure(caller, [Shape(64)], budget_s=0.02)
    assert few.call_spread() == ()


def test_samples_of_all_shapes_are_interleaved() -> None:
    """Among the first rounds no shape is visited a third time before every shape has been visited once."""
    caller = VirtualCaller(VirtualTime(), linear)
    sweep = Sweep()
    shapes = [Shape(size, length) for size in SIZES for length in (8, 16)]
    explore(shapes, caller, sweep=sweep, clock=caller.time, until=60.0)
    caller.visits.clear()
    repeat(caller, sweep=sweep, clock=caller.time, until=60.0, rng=np.random.default_rng(0))
    rounds = [
        caller.visits[start : start + len(shapes)] for start in range(0, LEAST_SAMPLES * len(shapes), len(shapes))
    ]
    assert all(set(one) == set(shapes) for one in rounds)
    assert len({tuple(one) for one in rounds}) == LEAST_SAMPLES


def test_drift_hits_every_shape_alike() -> None:
    """A machine that slows down by half as time goes on leaves the ratios between shapes as they are."""
    caller = VirtualCaller(VirtualTime(), lambda shape, now: linear(shape, now) * (1.0 + 0.05 * now))
    sweep = measure(caller, [Shape(size) for size in SIZES], budget_s=10.0)
    timings = {timing.shape.batch_size: timing.time_s for timing in sweep.timings()}
    assert sweep.drift() > 0.0
    for size in SIZES[1:]:
        assert timings[size] / timings[1] == pytest.approx(linear(Shape(size), 0) / linear(Shape(1), 0), rel=0.05)


@settings(max_examples=60, deadline=None)
@given(
    budget_s=st.floats(0.5, 30.0),
    base_s=st.floats(1e-4, 0.05),
    token_s=st.floats(1e-6, 2e-3),
    lengths=st.sets(st.sampled_from([8, 32, 128]), min_size=1),
)
def test_budget_is_kept_and_every_shape_accounted_for(
    budget_s: float, base_s: float, token_s: float, lengths: set[int]
) -> None:
    """Whatever calls cost, time ends near the budget and each shape is measured or dropped with a reason."""
    caller = VirtualCaller(VirtualTime(), lambda shape, _: base_s + token_s * shape.num_tokens)
    shapes = [Shape(size, length) for size in SIZES for length in lengths]
    sweep = measure(caller, shapes, budget_s=budget_s)
    # The first shape is always measured, however dear; besides it, the plan holds.
    least_s = (1 + FEWEST_SAMPLES) * 3 * (base_s + token_s * min(lengths))
    assert caller.time() <= max(budget_s * 1.1, least_s * 3) + 0.1
    assert {timing.shape for timing in sweep.timings()} | {one.shape for one in sweep.dropped} == set(shapes)
    assert all(timing.num_samples >= FEWEST_SAMPLES for timing in sweep.timings())


def test_shape_that_would_overrun_is_dropped_before_it_is_run() -> None:
    """At one second an item, a batch of 64 is dropped with what it would take, and was never called."""
    caller = VirtualCaller(VirtualTime(), lambda shape, _: 1.0 * shape.batch_size)
    sweep = measure(caller, [Shape(size) for size in SIZES], budget_s=30.0)
    dropped = {one.shape.batch_size: one for one in sweep.dropped}
    assert dropped[64].kind == "budget"
    assert "would take" in dropped[64].reason
    assert "raise --budget" in dropped[64].reason
    assert Shape(64) not in caller.calls


def test_long_shapes_get_fewer_samples_than_short_ones() -> None:
    """Where 5 repeats do not fit but 3 do, a shape is kept with 3."""
    caller = VirtualCaller(VirtualTime(), lambda shape, _: 0.1 * shape.batch_size)
    sweep = measure(caller, [Shape(1), Shape(16)], budget_s=8.0)
    samples = {timing.shape.batch_size: timing for timing in sweep.timings()}
    assert samples[16].num_samples == FEWEST_SAMPLES
    assert samples[1].num_samples >= LEAST_SAMPLES
    assert samples[16].confidence == 0.75


def test_repeats_stop_once_medians_are_narrow() -> None:
    """A model without noise is not measured until the budget is gone."""
    caller = VirtualCaller(VirtualTime(), linear)
    measure(caller, [Shape(size) for size in SIZES], budget_s=1000.0)
    assert caller.time() < 5.0


def test_model_that_raises_at_one_size_keeps_the_others() -> None:
    """Batch 16 fails: all others are measured, and the error is kept beside it."""

    def fail(shape: Shape, _: int) -> None:
        if shape.batch_size == 16:
            raise ModelError("the model raised ValueError: odd batch on a batch of 16")

    sweep = measure(VirtualCaller(VirtualTime(), linear, fail), [Shape(size) for size in SIZES], budget_s=5.0)
    assert [timing.shape.batch_size for timing in sweep.timings()] == [1, 2, 4, 8, 32, 64]
    assert [(one.shape, one.kind) for one in sweep.dropped] == [(Shape(16), "error")]
    assert "odd batch" in sweep.dropped[0].reason


def test_shapes_larger_than_one_out_of_memory_are_not_tried() -> None:
    """When 16 x 8 runs out of memory, 32 x 8 and 16 x 16 are dropped unrun, and 8 x 16 is still measured."""

    def fail(shape: Shape, _: int) -> None:
        if shape.batch_size >= 16:
            raise OutOfMemory("a batch of 16 ran out of memory")

    shapes = [Shape(size, length) for size in (8, 16, 32) for length in (8, 16)]
    caller = VirtualCaller(VirtualTime(), linear, fail)
    sweep = measure(caller, shapes, budget_s=5.0)
    assert {timing.shape for timing in sweep.timings()} == {Shape(8, 8), Shape(8, 16)}
    assert "larger than 16 x 8" in {one.shape: one.reason for one in sweep.dropped}[Shape(32, 16)]


def test_interrupt_keeps_what_was_measured() -> None:
    """Ctrl-C during the repeats leaves the samples so far."""

    def fail(_: Shape, num_calls: int) -> None:
        if num_calls == 60:
            raise KeyboardInterrupt

    sweep = Sweep()
    caller = VirtualCaller(VirtualTime(), linear, fail)
    explore([Shape(size) for size in SIZES], caller, sweep=sweep, clock=caller.time, until=9.0)
    with pytest.raises(KeyboardInterrupt):
        repeat(caller, sweep=sweep, clock=caller.time, until=9.0, rng=np.random.default_rng(0))
    assert sweep.timings()


def test_failure_in_the_middle_of_repeats_keeps_earlier_samples() -> None:
    """A shape that fails after some samples keeps those and gets no more."""

    def fail(shape: Shape, num_calls: int) -> None:
        if shape.batch_size == 2 and num_calls > 40:
            raise ModelError("gone")

    sweep = measure(VirtualCaller(VirtualTime(), linear, fail), [Shape(1), Shape(2)], budget_s=5.0)
    assert {timing.shape.batch_size for timing in sweep.timings()} == {1, 2}
    assert [one.reason for one in sweep.dropped] == ["gone"]


def test_interval_is_of_order_statistics_and_says_its_confidence() -> None:
    """Of 3 samples the range covers the median with 75 %; of 30, the interval is narrower than the range."""
    few = summarise(Samples(Shape(1), 1.0, 3, samples_s=[3.0, 1.0, 2.0]))
    assert (few.low_s, few.time_s, few.high_s, few.confidence) == (1.0, 2.0, 3.0, 0.75)
    many = summarise(Samples(Shape(1), 1.0, 3, samples_s=[float(value) for value in range(30)]))
    assert many.confidence == 0.95
    assert 0.0 < many.low_s < many.time_s < many.high_s < 29.0


def test_warm_up_goes_on_until_a_call_is_no_longer_faster() -> None:
    """A model whose first calls are slow is called until it has settled, and those calls are not timed."""
    calls: Counter[Shape] = Counter()

    def cooling(shape: Shape, _: float) -> float:
        calls[shape] += 1
        return max(0.01, 0.08 * 0.5 ** calls[shape])

    sweep = measure(VirtualCaller(VirtualTime(), cooling), [Shape(1)], budget_s=20.0)
    assert sweep.timings()[0].high_s == pytest.approx(0.01)
    assert sweep.points[0].num_warm_ups == 4


def test_shape_dropped_for_slow_first_calls_is_taken_up_again() -> None:
    """First calls are ten times as slow: what they made too dear is measured once repeats tell the true cost."""
    calls: Counter[Shape] = Counter()

    def slow_at_first(shape: Shape, _: float) -> float:
        calls[shape] += 1
        return 0.01 * shape.batch_size * (10.0 if calls[shape] <= 2 else 1.0)

    caller, sweep = VirtualCaller(VirtualTime(), slow_at_first), Sweep()
    too_dear: set[Shape] = set()
    time_shapes(
        [Shape(1), Shape(8), Shape(16)],
        caller,
        sweep=sweep,
        clock=caller.time,
        until=10.0,
        rng=np.random.default_rng(0),
        watch=lambda seen: too_dear.update(one.shape for one in seen.dropped),
    )
    assert too_dear == {Shape(16)}
    assert sweep.dropped == []
    assert {timing.shape for timing in sweep.timings()} == {Shape(1), Shape(8), Shape(16)}
