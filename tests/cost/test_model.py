"""The cost model as a whole: what it picks, what it promises, and where it declines to answer."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.cost import CostModel as SchedulerCost
from carpool.cost.model import CostModel, Measurement, MemoryPoint, fit_cost_model
from carpool.errors import ConfigError, OutOfRange
from tests.cost.truths import LENGTHS, SIZES, encoder, linear, measure

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY = [
    MemoryPoint(batch_size=size, length=length, peak_bytes=100_000_000 + size * (1000 + 50 * length))
    for size in (1, 16, 256)
    for length in (8, 256)
]


def fitted(**options: object) -> CostModel:
    """Fit the exact straight line."""
    return fit_cost_model(measure(linear), measured_on={"device": "cpu"})


@pytest.mark.parametrize("noise", [0.0, 0.02])
@pytest.mark.parametrize(
    ("kind", "truth"),
    [
        ("linear", linear),
        ("hinge", lambda b, _: max(5e-3, 1e-3 + 2e-4 * b)),
        ("isotonic", lambda b, _: 1e-3 * b**0.5 if b < 100 else 1e-4 * b),
    ],
)
def test_the_form_that_made_the_data_is_chosen(kind: str, truth: object, noise: float) -> None:
    """By leave-one-out error, noise or none, with the simpler taken where both predict as well."""
    assert callable(truth)
    model = fit_cost_model(measure(truth, noise=noise), measured_on={})
    assert model.kind == kind
    assert set(model.scores_pct) == {"linear", "hinge", "step", "isotonic"}
    if kind != "isotonic":
        assert model.error_pct <= 150 * noise + 1e-6


def test_steps_are_chosen_where_the_sizes_show_them() -> None:
    """A size on either side of each tile tells steps from a hinge."""
    sizes = (1, 8, 16, 17, 32, 33, 48, 49, 64, 65)
    model = fit_cost_model(measure(lambda b, _: 1e-3 + 4e-3 * -(-b // 16), sizes=sizes), measured_on={})
    assert (model.kind, model.surface.curves[0].params["T"]) == ("step", 16)
    assert model.time_s(40) == pytest.approx(1e-3 + 3 * 4e-3)


def test_an_encoder_over_lengths_is_recovered_exactly() -> None:
    """Also at lengths and sizes that were not measured, and its terms are the truth's."""
    model = fit_cost_model(measure(encoder, lengths=LENGTHS), measured_on={})
    assert model.kind == "encoder"
    assert model.surface.terms == pytest.approx({"a": 3e-3, "p": 1e-4, "c0": 0.0, "c1": 2e-5, "c2": 2e-8}, abs=1e-12)
    assert model.time_s(7, 100) == pytest.approx(encoder(7, 100))


def test_rows_are_chosen_where_no_formula_holds() -> None:
    """A floor that ends at a number of tokens is not in the encoder's formula; each length gets its own curve."""

    def floor(batch_size: int, length: int) -> float:
        return 3e-3 + max(5e-3, 4e-5 * batch_size * length)

    model = fit_cost_model(measure(floor, lengths=LENGTHS), measured_on={})
    assert model.kind.startswith("rows of ")
    assert model.scores_pct[model.kind] < model.scores_pct["encoder"]
    assert model.time_s(64, 96) == pytest.approx(floor(64, 96), rel=0.02)


@pytest.mark.parametrize("lengths", [(1,), LENGTHS])
@pytest.mark.parametrize("truth", [linear, encoder, lambda b, n: 3e-3 + max(5e-3, 4e-5 * b * n)])
def test_the_largest_error_is_found_at_the_shape_that_does_not_fit_in(
    truth: Callable[[int, int], float], lengths: tuple[int, ...]
) -> None:
    """One point that took a tenth of what its neighbours say is predicted ten times too slow, in every form of fit."""
    points = measure(truth, lengths=lengths)
    odd = (8, lengths[len(lengths) // 2])
    moved = [
        replace(one, time_s=time_s, low_s=time_s, high_s=time_s)
        for one in points
        for time_s in [(0.1 if (one.batch_size, one.length) == odd else 1.0) * one.time_s]
    ]
    model = fit_cost_model(moved, measured_on={})
    assert model.worst_error_at == odd
    assert model.worst_error_pct > 200.0


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_the_error_is_honest_about_points_not_seen(noise: float) -> None:
    """At sizes and lengths between those measured, the truth lies within the interval nearly always."""
    inside = []
    for seed in range(10):
        model = fit_cost_model(measure(encoder, lengths=LENGTHS, noise=noise, seed=seed), measured_on={})
        for size, length in itertools.product((3, 12, 48, 200), (12, 24, 100, 200)):
            low_s, high_s = model.time_interval_s(size, length)
            inside.append(low_s <= encoder(size, length) <= high_s)
        assert noise * 20 < model.error_pct < noise * 150
    assert np.mean(inside) >= 0.95


def test_a_precise_point_outweighs_a_loose_one() -> None:
    """Weights are the measurements' own: a wild point with a wild interval hardly moves the fit."""
    points = measure(linear)
    wild = replace(points[3], time_s=3 * points[3].time_s, low_s=0.1 * points[3].time_s, high_s=20 * points[3].time_s)
    points[3] = wild
    model = fit_cost_model(points, measured_on={})
    assert model.time_s(100) == pytest.approx(linear(100, 1), rel=0.05)


@given(st.floats(1e-4, 1e-1), st.floats(1e-5, 1e-2))
def test_the_formulas_of_a_straight_line_hold(a: float, c: float) -> None:
    """Speed-up, its limit, overhead share, and the batch for a fraction of peak, all from `a` and `c`."""
    model = fit_cost_model(measure(lambda b, _: a + c * b), measured_on={})
    for size in (1, 10, 256):
        assert model.throughput(size) * model.time_s(size) == pytest.approx(size)
        assert model.speedup(size) == pytest.approx(model.throughput(size) / model.throughput(1))
        assert model.overhead_share(size) == pytest.approx(a / (a + c * size), rel=1e-4, abs=1e-9)
        assert model.speedup(size) <= model.speedup_limit() * (1 + 1e-9)
    assert model.speedup_limit() == pytest.approx(1 + a / c, rel=1e-4)
    assert model.batch_for_fraction(0.9) == pytest.approx(9 * a / c, rel=1e-4)


@given(st.floats(1e-4, 1e-1), st.floats(1e-5, 1e-2), st.floats(0.5, 0.99))
def test_the_knee_is_the_smallest_size_that_reaches_the_share(a: float, c: float, share: float) -> None:
    """One fewer does not reach it, and asking for more never gives a smaller batch."""
    model = fit_cost_model(measure(lambda b, _: a + c * b), measured_on={})
    knee = model.knee(share=share)
    best = model.throughput(256)
    assert model.throughput(knee) >= share * best * (1 - 1e-12)
    assert knee == 1 or model.throughput(knee - 1) < share * best
    assert model.knee(share=share) <= model.knee(share=min(1.0, share + 0.01))


@given(st.floats(1e-5, 1e-2), st.floats(1e-4, 1e-2), st.floats(1.0, 20.0))
def test_more_overhead_moves_the_knee_up(c: float, a: float, factor: float) -> None:
    """What each call costs is why batches pay."""
    knees = [fit_cost_model(measure(lambda b, _, a=a: a + c * b), measured_on={}).knee() for a in (a, factor * a)]  # type: ignore[misc]
    assert knees[0] <= knees[1]


@given(st.integers(0, 1000))
def test_time_never_falls_with_the_batch_size(seed: int) -> None:
    """Whatever form is chosen, for noisy measurements too."""
    rng = np.random.default_rng(seed)
    times = rng.uniform(1e-3, 1e-1, len(SIZES)).tolist()
    points = [Measurement(batch_size=b, time_s=t, low_s=t, high_s=t) for b, t in zip(SIZES, times, strict=True)]
    model = fit_cost_model(points, measured_on={})
    predicted = [model.time_s(size) for size in range(1, 257)]
    assert all(later >= earlier * (1 - 1e-12) for earlier, later in itertools.pairwise(predicted))


def test_beyond_what_was_measured_it_names_value_range_and_remedy() -> None:
    """Larger, smaller, longer, shorter."""
    model = fit_cost_model(measure(encoder, lengths=LENGTHS, sizes=(2, 4, 8, 16, 32, 64)), measured_on={})
    cases = {
        (65, 64): "batch size 65 is outside the measured range 2 to 64 at length 64: "
        "profile again with --batch-sizes up to 65",
        (
            1,
            64,
        ): "batch size 1 is outside the measured range 2 to 64 at length 64: profile again with --batch-sizes from 1",
        (2, 257): "length 257 is outside the measured range 8 to 256: profile again with --lengths up to 257",
        (2, 7): "length 7 is outside the measured range 8 to 256: profile again with --lengths from 7",
    }
    for (size, length), expected in cases.items():
        with pytest.raises(OutOfRange) as caught:
            model.time_s(size, length)
        assert str(caught.value) == expected


def test_between_two_lengths_only_what_both_cover_is_covered() -> None:
    """Where long items were measured in small batches only, a length just below them has no more."""
    points = measure(encoder, lengths=(8, 64)) + measure(encoder, lengths=(256,), sizes=(1, 2, 4, 8))
    model = fit_cost_model(points, measured_on={})
    assert [model.largest_batch_at(length) for length in (8, 40, 64, 65, 256)] == [256, 256, 256, 8, 8]
    with pytest.raises(OutOfRange, match="batch size 9 is outside the measured range 1 to 8 at length 100"):
        model.time_s(9, 100)


def test_a_length_must_be_given_where_several_were_measured() -> None:
    """And need not be where one was."""
    model = fit_cost_model(measure(encoder, lengths=LENGTHS), measured_on={})
    with pytest.raises(ConfigError, match="a length is needed: the model was measured at lengths"):
        model.time_s(4)
    assert fitted().time_s(4) == fitted().time_s(4, 1)


def test_the_clipped_model_equals_the_model_within_and_never_raises_outside() -> None:
    """It goes on in straight lines: never less for more, and exactly the truth for a straight truth."""
    model = fit_cost_model(measure(encoder, lengths=LENGTHS), MEMORY, measured_on={})
    clipped = model.clipped()
    assert clipped.time_s(20, 100) == model.time_s(20, 100)
    grid = [[clipped.time_s(size, length) for size in (1, 100, 256, 300, 5000)] for length in (1, 8, 256, 300, 9000)]
    assert (np.diff(grid, axis=0) >= 0.0).all()
    assert (np.diff(grid, axis=1) >= 0.0).all()
    assert fitted().clipped().time_s(1000, 1) == pytest.approx(linear(1000, 1))
    assert clipped.memory_bytes(10_000, 256) == pytest.approx(100_000_000 + 10_000 * (1000 + 50 * 256))
    assert fitted().clipped().memory_bytes(10_000, 256) == 0.0


def test_the_clipped_model_of_one_size_and_length_scales_in_proportion() -> None:
    """With nothing else to go by, twice the tokens take twice the time."""
    one = fit_cost_model(measure(linear, sizes=(8, 16)), measured_on={}).clipped()
    assert one.time_s(16, 2) == pytest.approx(2 * one.time_s(16, 1))


def test_the_clipped_model_is_what_the_core_asks_for() -> None:
    """It has the protocol's methods."""
    scheduler: SchedulerCost = fitted().clipped()
    assert isinstance(scheduler, SchedulerCost)


def test_it_survives_json() -> None:
    """The artefact is plain data: written and read back it is equal, memory and all."""
    for points in (measure(encoder, lengths=LENGTHS), measure(lambda b, _: b**0.5)):
        model = fit_cost_model(points, MEMORY, measured_on={"device": "cpu"})
        assert msgspec.json.decode(msgspec.json.encode(model), type=CostModel) == model


def test_repeated_shapes_are_merged() -> None:
    """A shape measured twice counts once, with its mean and its widest interval."""
    points = measure(linear)
    twice = [*points, *(replace(p, time_s=p.time_s * 1.02, high_s=p.time_s * 1.05) for p in points)]
    model = fit_cost_model(twice, measured_on={})
    assert model.time_s(64) == pytest.approx(1.01 * linear(64, 1))


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([], "cannot fit a cost model to nothing .batch size x length.: at least one length needs two batch sizes"),
        (
            measure(linear, sizes=(8,)),
            "cannot fit a cost model to 8 x 1 .*; profile with --batch-sizes 1,2,4,8 or more",
        ),
        (measure(encoder, sizes=(4,), lengths=(8, 16)), "cannot fit a cost model to 4 x 8, 4 x 16 "),
        (measure(lambda b, _: 1.0 - b), "a time of 0.0 s .* at batch size 1, length 1: it must be positive"),
        (
            [Measurement(batch_size=0, time_s=1.0, low_s=1.0, high_s=1.0)],
            "batch size 0, length 1: both must be at least 1",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused_with_the_remedy(points: list[Measurement], expected: str) -> None:
    """Too few points, or points that cannot be true."""
    with pytest.raises(ConfigError, match=expected):
        fit_cost_model(points, measured_on={})


def test_two_batch_sizes_give_a_line_with_a_large_error() -> None:
    """It passes through both, and says how little that means."""
    model = fit_cost_model(measure(linear, sizes=(1, 32)), measured_on={})
    assert model.time_s(16) == pytest.approx(linear(16, 1))
    assert model.error_pct > 20.0


def test_a_profile_cut_short_still_gives_a_model() -> None:
    """A length that was measured at one size only, or at few, joins the others as it can."""
    points = [
        *measure(encoder, lengths=(16,)),
        *measure(encoder, lengths=(32,), sizes=(1, 2, 4)),
        *measure(encoder, lengths=(64,), sizes=(1,)),
    ]
    model = fit_cost_model(points, measured_on={})
    assert model.largest_batch_sizes == (256, 4, 1)
    assert model.time_s(1, 64) == pytest.approx(encoder(1, 64), rel=0.1)
    assert model.time_s(256, 16) == pytest.approx(encoder(256, 16), rel=0.1)


def test_a_fraction_outside_the_limit_is_refused() -> None:
    """The whole of the peak takes an infinite batch."""
    with pytest.raises(ConfigError, match=r"fraction 1\.0 of the peak cannot be reached: give one from 0 to below 1"):
        fitted().batch_for_fraction(1.0)


def test_memory_that_was_not_measured_is_not_guessed() -> None:
    """Without probes, or beyond them."""
    with pytest.raises(OutOfRange, match="memory was not measured"):
        fitted().memory_bytes(4)
    model = fit_cost_model(measure(encoder, lengths=LENGTHS), MEMORY, measured_on={})
    assert model.memory_bytes(10, 100) == pytest.approx(100_000_000 + 10 * (1000 + 50 * 100))
    with pytest.raises(OutOfRange, match="memory of batch size 257 at length 8 was not measured: probes went up to"):
        model.memory_bytes(257, 8)
