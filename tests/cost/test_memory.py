"""Memory over batch size and length, and the largest batch within a limit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from carpool.cost.memory import MemoryFit, fit_memory
from carpool.cost.points import MemoryPoint
from carpool.errors import ConfigError, OutOfRange

SHAPES = [(size, length) for size in (1, 8, 64) for length in (16, 128)]


def probe(m0: int, m1: int, m2: int, shapes: list[tuple[int, int]] = SHAPES) -> MemoryFit:
    """Fit exact probes of a known memory."""
    points = [MemoryPoint(batch_size=b, length=n, peak_bytes=m0 + b * (m1 + m2 * n)) for b, n in shapes]
    return fit_memory(points)


@given(st.integers(10**6, 10**10), st.integers(0, 10**6), st.integers(0, 10**5))
def test_exact_probes_give_exact_bytes(m0: int, m1: int, m2: int) -> None:
    """At shapes that were not probed too."""
    fit = probe(m0, m1, m2)
    assert fit.memory_bytes(32, 64) == pytest.approx(m0 + 32 * (m1 + m2 * 64), rel=1e-9)
    assert fit.error_pct == pytest.approx(0.0, abs=1e-6)


@given(st.integers(0, 10**6))
def test_noisy_probes_give_scipys_nonnegative_fit(seed: int) -> None:
    """The oracle minimises the same relative error."""
    rng = np.random.default_rng(seed)
    points = [
        MemoryPoint(batch_size=b, length=n, peak_bytes=round((10**8 + b * n * 500) * rng.uniform(0.9, 1.1)))
        for b, n in SHAPES
    ]
    peaks = np.array([point.peak_bytes for point in points], dtype=float)
    design = np.array([[1.0, b, b * n] for b, n in SHAPES]) / peaks[:, None]
    expected, _ = scipy.optimize.nnls(design, np.ones_like(peaks))
    fit = fit_memory(points)
    np.testing.assert_allclose([fit.m0_bytes, fit.m1_bytes, fit.m2_bytes], expected, rtol=1e-6, atol=1e-3)


@given(st.integers(0, 10**6), st.lists(st.floats(0, 4e8), min_size=2, max_size=2), st.integers(1, 128))
def test_more_memory_never_holds_a_smaller_batch(seed: int, limits: list[float], length: int) -> None:
    """And what is promised to fit was never seen to need more than the limit."""
    rng = np.random.default_rng(seed)
    points = [
        MemoryPoint(batch_size=b, length=n, peak_bytes=round((10**8 + b * n * 20_000) * rng.uniform(0.9, 1.1)))
        for b, n in SHAPES
    ]
    fit = fit_memory(points)
    low, high = (fit.largest_batch(limit, length) or 0 for limit in sorted(limits))
    assert low <= high
    for point in points:
        largest = fit.largest_batch(limits[0], point.length) or 0
        assert point.batch_size > largest or point.peak_bytes <= limits[0] * (1 + 1e-9)


def test_the_largest_batch_stops_at_what_was_probed() -> None:
    """However much memory there is; and is None where not even one item fits."""
    fit = probe(1_000_000, 1000, 10)
    assert fit.largest_batch(10**12, 128) == 64
    assert fit.largest_batch(1_000_000 + 5 * (1000 + 160) + 5, 16) == 5
    assert fit.largest_batch(999_999, 16) is None


def test_one_length_leaves_out_the_part_of_tokens() -> None:
    """Items and tokens can't be told apart, so the item carries both."""
    fit = probe(10**6, 100, 0, [(1, 1), (4, 1), (16, 1)])
    assert [fit.m1_bytes, fit.m2_bytes] == pytest.approx([100.0, 0.0])


def test_shapes_larger_than_any_probe_are_not_answered() -> None:
    """Neither by size, nor by length, nor by the product of the two."""
    fit = probe(10**6, 100, 10, [(1, 128), (64, 16), (8, 128)])
    for shape in ((65, 1), (1, 129), (9, 128), (0, 1)):
        with pytest.raises(OutOfRange, match="profile again with --batch-sizes up to"):
            fit.check(*shape)
    fit.check(64, 16)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([MemoryPoint(batch_size=4, peak_bytes=10)] * 2, "cannot fit a memory model to 2 probe"),
        ([MemoryPoint(batch_size=4, peak_bytes=0), MemoryPoint(batch_size=8, peak_bytes=9)], "0 bytes at batch size 4"),
    ],
)
def test_probes_that_say_nothing_are_refused(points: list[MemoryPoint], expected: str) -> None:
    """One shape only, or no bytes."""
    with pytest.raises(ConfigError, match=expected):
        fit_memory(points)
