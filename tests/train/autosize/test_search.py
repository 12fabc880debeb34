"""The search for the largest micro-batch: decisions about made-up memory, held against trying every size."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.train.autosize.result import Probe
from carpool.train.autosize.search import MOST_PROBES, Known, next_size

MIB = 1 << 20
Peak = Callable[[int], float]


def searched(peak: Peak, limit: float, most: int, *, dies_at: float = 1.1, fails_at: int = 0) -> list[Probe]:
    """Search among made-up peaks; what needs `dies_at` of the limit is killed and leaves no figure."""
    probes: list[Probe] = []
    while (size := next_size(probes, limit_bytes=int(limit), most=most)) is not None:
        assert size not in {probe.size for probe in probes}
        assert 1 <= size <= most
        needed = peak(size)
        if size == fails_at:
            probes.append(Probe(size=size, outcome="failed", reason="wants two"))
        elif needed > limit:
            held = int(needed) if needed < dies_at * limit else None
            probes.append(Probe(size=size, outcome="does not fit", peak_bytes=held))
        else:
            probes.append(Probe(size=size, outcome="fits", peak_bytes=int(needed)))
    return probes


def largest_of_all(peak: Peak, limit: float, most: int) -> int:
    """Try every size."""
    return max((size for size in range(1, most + 1) if peak(size) <= limit), default=0)


def found(probes: list[Probe]) -> int:
    """The largest size that fitted."""
    return max((probe.size for probe in probes if probe.fits), default=0)


@st.composite
def peaks(draw: st.DrawFn) -> tuple[Peak, float, int]:
    """Peaks of memory as they are: a base, items, sometimes a floor of the optimiser's, or attention's square."""
    base = draw(st.floats(200, 2000)) * MIB
    limit = base * draw(st.floats(1.3, 20))
    most = draw(st.integers(1, 4000))
    # So that what fits lies between one item and far beyond all that is of interest.
    per_item = (limit - base) / draw(st.floats(0.6, 8000))
    floor = draw(st.sampled_from([0.0, 0.0, 0.2, 0.6])) * (limit - base)
    square = draw(st.sampled_from([0.0, 0.0, 1e-3])) * per_item
    noise = draw(st.sampled_from([0.0, 0.0005]))
    seed = draw(st.integers(0, 1 << 30))

    def peak(size: int) -> float:
        wobble = ((size * 2654435761 + seed) % 1000 / 500 - 1) * noise
        return base + max(floor, size * per_item + square * size * size) + base * wobble

    return peak, limit, most


@settings(max_examples=300)
@given(peaks(), st.sampled_from([1.0, 1.05, 100.0]))
def test_the_largest_size_is_found_within_five_per_cent_in_twelve_probes(
    made_up: tuple[Peak, float, int], dies_at: float
) -> None:
    """Whatever grows in memory, and whether what does not fit is killed or measured, it ends where it should."""
    peak, limit, most = made_up
    probes = searched(peak, limit, most, dies_at=dies_at)
    assert len(probes) <= MOST_PROBES
    assert found(probes) >= 0.95 * largest_of_all(peak, limit, most)


def straight(base: float, per_item: float) -> Peak:
    """A base and a part for each item, in MiB."""
    return lambda size: (base + per_item * size) * MIB


def test_a_straight_line_takes_few_probes_and_none_far_beyond_the_limit() -> None:
    """The jump to 0.9 of the prediction, the probe below the second one, and the one that shows the end."""
    probes = searched(straight(100, 2), 1000 * MIB, 4096)
    assert [probe.size for probe in probes] == [1, 2, 16, 128, 405, 441, 465]
    assert [probe.size for probe in probes if not probe.fits] == [465]


def test_a_floor_under_small_sizes_does_not_mislead() -> None:
    """While the optimiser's own step is the peak, sizes tell nothing of what an item needs."""
    peak: Peak = lambda size: (300 + max(500.0, 3.0 * size)) * MIB  # noqa: E731 - one of many such
    probes = searched(peak, 1500 * MIB, 4096, dies_at=1.0)
    assert 380 <= found(probes) <= 400


def test_the_search_is_over_when_all_that_is_of_interest_fits() -> None:
    """The data's own number of items is tried as it is, and nothing beyond."""
    probes = searched(straight(100, 1), 10_000 * MIB, 300)
    assert found(probes) == 300
    assert all(probe.fits for probe in probes)


def test_small_sizes_are_found_exactly() -> None:
    """Five per cent of a handful is less than one item."""
    for largest in range(1, 21):
        assert found(searched(straight(100, 50), (100 + 50 * largest + 25) * MIB, 4096)) == largest


def test_where_not_even_one_item_fits_the_search_ends_at_once() -> None:
    """There is nothing smaller to try."""
    assert [probe.size for probe in searched(straight(100, 50), 120 * MIB, 64)] == [1]


def test_a_model_that_wants_two_items_is_searched_from_two_on() -> None:
    """A batch norm of vectors raises on a single one."""
    probes = searched(straight(100, 2), 300 * MIB, 4096, fails_at=1)
    assert probes[0].outcome == "failed"
    assert found(probes) >= 95
    assert len(searched(straight(100, 2), 300 * MIB, 1, fails_at=1)) == 1


def test_what_was_too_slow_bounds_the_search_as_memory_does() -> None:
    """A size that was not done in time is not tried again, nor a larger one."""
    probes = [
        Probe(size=1, outcome="fits", peak_bytes=100 * MIB),
        Probe(size=2, outcome="fits", peak_bytes=101 * MIB),
        Probe(size=4, outcome="too slow"),
    ]
    assert next_size(probes, limit_bytes=1000 * MIB, most=64) == 3


def test_what_fits_beyond_a_size_that_does_not_is_not_counted() -> None:
    """A peak that falls as sizes grow is chance: the smaller of the two sizes is believed."""
    probes = [
        Probe(size=8, outcome="fits", peak_bytes=100 * MIB),
        Probe(size=16, outcome="does not fit", peak_bytes=201 * MIB),
        Probe(size=17, outcome="fits", peak_bytes=199 * MIB),
    ]
    assert Known.of(probes, 200 * MIB).fits == ((8, 100 * MIB),)


@pytest.mark.parametrize("dies_at", [1.0, 100.0])
def test_memory_that_rises_in_steps_still_ends_in_a_bracket(dies_at: float) -> None:
    """An allocator that takes blocks of 64 MiB gives no line to follow."""
    peak: Peak = lambda size: (200 + 64 * (size // 37)) * MIB  # noqa: E731 - one of many such
    probes = searched(peak, 1000 * MIB, 2000, dies_at=dies_at)
    assert found(probes) >= 0.95 * largest_of_all(peak, 1000 * MIB, 2000)


def test_a_wall_that_nothing_foretells_takes_no_more_than_twelve_probes() -> None:
    """Where flat peaks end in a death, the bracket is halved as far as probes go, and what fits is still found."""
    peak: Peak = lambda size: (100 if size <= 300_000 else 5000) * MIB  # noqa: E731 - one of many such
    probes = searched(peak, 1000 * MIB, 1 << 20, dies_at=1.0)
    assert len(probes) == MOST_PROBES
    assert 270_000 <= found(probes) <= 300_000
