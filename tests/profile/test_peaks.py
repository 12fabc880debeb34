"""Peaks of the machine: how the best is chosen in virtual time, and that real ones are plausible."""

import time

import pytest

from carpool.profile.peaks import MATRIX_SIZES, MeasuredPeaks, best_s, fastest_product, measure_peaks
from carpool.profile.work import Work
from tests.profile.virtual import VirtualTime


def test_fastest_of_the_repeats_counts() -> None:
    """Interference only makes calls slower, so that the fastest is nearest to the truth."""
    clock, times = VirtualTime(), iter([9.0, 3.0, 2.0, 4.0])

    def call() -> None:
        clock.now += next(times)

    assert best_s(call, budget_s=8.0, clock=clock) == 2.0


def test_best_rate_over_sizes_is_taken() -> None:
    """A machine that is best at 1024 is given that peak and that size."""
    clock, rates = VirtualTime(), {512: 1e9, 1024: 4e9, 2048: 2e9, 4096: 1e9}

    def product(size: int) -> object:
        def call() -> None:
            clock.now += 2.0 * size**3 / rates[size]

        return call

    best, size = fastest_product(product, budget_s=1e6, clock=clock)  # type: ignore[arg-type]
    assert best == pytest.approx(4e9)
    assert size == 1024


def test_sizes_that_would_overrun_are_left_out() -> None:
    """A slow machine measures the first size, and predicts that the next are too dear."""
    clock, sizes = VirtualTime(), []

    def product(size: int) -> object:
        sizes.append(size)

        def call() -> None:
            clock.now += 2.0 * size**3 / 1e6

        return call

    fastest_product(product, budget_s=1.0, clock=clock)  # type: ignore[arg-type]
    assert sizes == [MATRIX_SIZES[0]]


def test_peak_that_the_model_passes_is_raised_and_by_how_much_is_kept() -> None:
    """So that no share of a peak is above 1, and a product that was held up can be told."""
    peaks = MeasuredPeaks(
        flops_per_s=1e9,
        matrix_size=512,
        bytes_per_s=1e9,
        to_device_bytes_per_s=None,
        to_host_bytes_per_s=None,
        dtype="float32",
        library="torch",
    )
    raised = peaks.raised_to(1.2e9)
    assert (raised.flops_per_s, raised.matrix_size, raised.model_over_product) == pytest.approx((1.2e9, 0, 1.2))
    assert peaks.raised_to(0.5e9) == peaks
    assert peaks.least_s(Work(flops=3e9, num_bytes=5e9)) == 5.0


def test_real_peaks_are_measured() -> None:
    """This machine multiplies and copies at more than a crawl, whichever library is loaded."""
    peaks = measure_peaks("cpu", "", budget_s=0.2, clock=time.perf_counter)
    assert peaks.flops_per_s > 1e8
    assert peaks.bytes_per_s > 1e8
    assert (peaks.dtype, peaks.to_device_bytes_per_s) == ("float32", None)
