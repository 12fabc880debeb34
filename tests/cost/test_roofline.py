"""Which of compute, memory, overhead and transfer is named, and on what grounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.cost.roofline import Breakdown, Peaks, intensity, mbu, mfu, name_bound
from carpool.errors import ConfigError

PEAKS = Peaks(flops_per_s=1e12, bytes_per_s=1e11)


def spent(*, host: float = 0.0, transfer: float = 0.0, launch: float = 0.0, compute: float = 0.0) -> Breakdown:
    """Say where milliseconds went."""
    return Breakdown(host_s=host * 1e-3, transfer_s=transfer * 1e-3, launch_s=launch * 1e-3, compute_s=compute * 1e-3)


def test_utilisations_are_shares_of_the_measured_peaks() -> None:
    """`FLOP / (time x peak)`, and the same for bytes; their peaks meet at the ridge."""
    assert mfu(5e9, 0.01, PEAKS) == pytest.approx(0.5)
    assert mbu(3e8, 0.01, PEAKS) == pytest.approx(0.3)
    assert intensity(5e9, 3e8) == pytest.approx(50 / 3)
    assert PEAKS.ridge == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("breakdown", "flops", "num_bytes", "kind"),
    [
        (spent(compute=10, host=1), 6e9, 1e8, "compute"),
        (spent(compute=10, host=1), 1e9, 6e8, "memory"),
        (spent(compute=10, host=1), 1e9, 1e8, "overhead"),
        (spent(compute=4, host=3, launch=3), 3e9, 1e8, "overhead"),
        (spent(compute=4, transfer=6), 3e9, 1e8, "transfer"),
        (spent(compute=10), None, None, "compute"),
    ],
)
def test_the_bound_is_the_largest_part_then_the_nearest_peak(
    breakdown: Breakdown, flops: float | None, num_bytes: float | None, kind: str
) -> None:
    """Six machines in six situations."""
    assert name_bound(breakdown, peaks=PEAKS, flops=flops, num_bytes=num_bytes).kind == kind


def test_the_reason_gives_the_figures_that_decided() -> None:
    """A reader can check the verdict."""
    bound = name_bound(spent(compute=8, host=2), peaks=PEAKS, flops=6e9, num_bytes=1e8)
    assert bound.why == "for 80% of the time the device works, at 75% of the peak FLOP/s and 12% of the peak bytes/s"
    assert [bound.mfu, bound.mbu, bound.intensity] == pytest.approx([0.6, 0.1, 60.0])


def test_data_that_move_faster_than_a_copy_are_said_to_stay_in_caches() -> None:
    """More than the whole of a peak is explained, not claimed."""
    bound = name_bound(spent(compute=10), peaks=PEAKS, flops=1e9, num_bytes=3e9)
    assert bound.kind == "memory"
    assert "more than the peak bytes/s of a large copy, as much of it stays in caches (300%)" in bound.why


def test_small_pieces_of_work_are_called_overhead_and_say_why() -> None:
    """A busy device that is near neither of its peaks is not limited by them."""
    bound = name_bound(spent(compute=10), peaks=PEAKS, flops=1e9, num_bytes=1e8)
    assert bound.why.endswith("both below 25%, so many small pieces of work limit it, not a peak")


def test_without_peaks_nothing_is_claimed_about_them() -> None:
    """The parts of the time still name the bound."""
    bound = name_bound(spent(host=6, compute=4), flops=1e9)
    assert (bound.kind, bound.mfu, bound.mbu, bound.intensity) == ("overhead", None, None, None)


@given(*(st.floats(0.0, 10.0) for _ in range(4)), st.sampled_from([2.0**power for power in range(1, 11)]))
def test_the_bound_does_not_depend_on_the_unit_of_time(a: float, b: float, c: float, d: float, factor: float) -> None:
    """Slower by a power of two (nothing is rounded) with peaks lower by the same: the same verdict."""
    slow = Peaks(flops_per_s=1e12 / factor, bytes_per_s=1e11 / factor)
    once = name_bound(spent(host=a, transfer=b, launch=c, compute=d + 1e-3), peaks=PEAKS, flops=3e9, num_bytes=2e8)
    again = name_bound(
        spent(host=a * factor, transfer=b * factor, launch=c * factor, compute=(d + 1e-3) * factor),
        peaks=slow,
        flops=3e9,
        num_bytes=2e8,
    )
    assert once.kind == again.kind


def test_nothing_measured_is_refused() -> None:
    """A breakdown of no time, or a peak of 0."""
    with pytest.raises(ConfigError, match=r"adds up to 0\.0 s; it must be above 0"):
        name_bound(spent())
    with pytest.raises(ConfigError, match=r"peak bytes_per_s is 0\.0; it must be above 0 and finite"):
        Peaks(flops_per_s=1.0, bytes_per_s=0.0)
