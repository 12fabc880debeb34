"""What larger batches gain, in words: measured or estimated, harm and dips with their numbers."""

from __future__ import annotations

import pytest

from carpool.profile.gains import harmful
from carpool.profile.measure import Samples, Sweep
from carpool.profile.plots import pictures
from carpool.profile.shape import Shape
from tests.profile.made_up import only, rates, timed


def said(*times_s: dict[Shape, float], spread: float = 0.0) -> list[str]:
    """The sentences of a profile with these times alone."""
    both = {shape: seconds for one in times_s for shape, seconds in one.items()}
    return list(only(both, lambda found: setattr(found, "sweep", timed(both, spread=spread))).profile().sentences)


def linear(*sizes: int, call_s: float = 4e-3, item_s: float = 1e-3, length: int = 1) -> dict[Shape, float]:
    """A cost of the call and one of each item."""
    return {Shape(size, length): call_s + item_s * size for size in sizes}


def test_knee_that_was_not_measured_is_called_an_estimate() -> None:
    """The rate, the gain and the time are the fit's, and what was measured nearest stands beside them."""
    sentences = said(linear(1, 2, 4, 8, 16, 32, 64, 128, 256))
    assert sentences[0] == (
        "By the fit, batches of 58, a size that was not measured, would buy about 4.7 times the throughput of single "
        "items (about 935 instead of 200 a second) and cost latency: a call would take about 62 ms instead of 5 ms."
    )
    assert sentences[1] == (
        "Measured nearest to it: batches of 64 ran at 941 items a second, 4.7 times the rate of single ones, "
        "and took 68 ms."
    )
    assert sentences[2].startswith(
        "Beyond 58 there is little to gain: batches of 256 gave 5% more throughput than that"
    )


def test_knee_that_was_measured_is_told_as_measured() -> None:
    """Its figures are those of the table, not the fit's."""
    sentences = said({**linear(1, 2, 4, 8, 16, 58, 256), Shape(58): 61.9e-3})
    assert sentences[0] == (
        "Batches of 58 buy 4.7 times the throughput of single items (937 instead of 200 a second) and cost latency: "
        "a call takes 61.9 ms instead of 5 ms."
    )
    assert not any("By the fit" in sentence for sentence in sentences)


def test_times_of_one_sentence_share_a_unit() -> None:
    """A call of 20 us beside one of 1.3 ms."""
    sentence = said({Shape(size): 4e-6 + 16e-6 * size for size in (1, 2, 4, 8, 16, 32, 64)})[0]
    assert " ms" not in sentence
    assert sentence.count(" us") == 2


def test_growth_at_the_largest_batch_is_told() -> None:
    """Where the measuring stopped before throughput levelled off, larger batches may give more."""
    times_s = linear(1, 2, 4, 8, 16, call_s=0.1)
    assert "Throughput still grew at batch 16, the largest that was measured: larger ones may give more." in said(
        times_s
    )
    assert "Throughput still grows at 16" in pictures(only(times_s).profile())["speed"].alt


def test_the_largest_error_names_its_shape() -> None:
    """Where the fit is worst is said, not only by how much."""
    times_s = {**linear(1, 2, 4, 8, 16, 32, 64), Shape(8): 15e-3}
    (fit,) = [sentence for sentence in said(times_s) if "predicts shapes" in sentence]
    assert "its largest error is 20 %, at batch 8. It was fitted to 7 shapes on A Processor." in fit


def test_harm_of_small_batches_is_told_with_its_numbers() -> None:
    """Throughput of 0.41 and 0.83 times that of single items, before batching pays."""
    sentences = said(rates({1: 1000, 2: 410, 4: 830, 8: 1660, 16: 3000, 32: 5000, 64: 8000}))
    assert "Batches of 2 and 4 do harm: they give 0.41 and 0.83 times the throughput of single items." in sentences


def test_harm_at_another_length_is_told_too() -> None:
    """The typical length is told in full, the others by name; where only another length suffers, that one is."""
    suffering, fine = {1: 100, 2: 60, 4: 62, 8: 400}, {1: 50, 2: 90, 4: 120, 8: 150}
    assert any(
        "Batches of 2 and 4 do harm: they give 0.6 and 0.62 times the throughput of single items of 16 tokens "
        "(some do at 64 tokens too)." in sentence
        for sentence in said(rates(suffering, 16), rates(suffering, 64))
    )
    assert any("of single items of 64 tokens." in one for one in said(rates(fine, 16), rates(suffering, 64)))


def test_fall_of_throughput_is_told_with_its_numbers() -> None:
    """From the best size on, each size that is clearly slower."""
    sentences = said(rates({1: 100, 2: 180, 4: 300, 8: 450, 16: 290, 32: 270}))
    assert (
        "Throughput falls beyond batch 8: from 450 items a second there to 290 at 16 (36% less) and "
        "270 at 32 (40% less)."
    ) in sentences
    assert not any("little to gain" in sentence for sentence in sentences)


def test_dip_that_a_larger_batch_makes_up_for_is_told_as_one() -> None:
    """Batches of 16 are slower than those of 8, and those of 32 faster again."""
    sentences = said(rates({1: 100, 2: 180, 4: 300, 8: 450, 16: 340, 32: 700}, 32), rates({1: 50, 2: 90}, 64))
    assert (
        "Throughput dips beyond batch 8 of 32 tokens: from 450 items a second there to 340 at 16 (24% less); "
        "batches of 32 are faster again." in sentences
    )


def test_what_the_intervals_allow_is_no_harm() -> None:
    """Batches of 2 that are 10 % slower, in times known to 20 %, may as well be equal."""
    profile = only(rates({1: 100, 2: 90, 4: 200, 8: 400})).profile()
    unsure = timed(rates({1: 100, 2: 90, 4: 200, 8: 400}), spread=0.2)
    wide = only(rates({1: 100, 2: 90, 4: 200, 8: 400}), lambda found: setattr(found, "sweep", unsure)).profile()
    assert [point.batch_size for point in harmful(profile.points)] == [2]
    assert harmful(wide.points) == []


def test_batches_that_buy_nothing_are_told_so() -> None:
    """Each item costs the same in any batch."""
    sentences = said({Shape(size): 1e-2 * size for size in (1, 2, 4, 8)})
    assert sentences[0].startswith("Batching buys nothing here: single items already run at 100 a second")


def test_without_single_items_no_gain_is_claimed() -> None:
    """What was not measured is asked for."""
    sentences = said(linear(8, 16, 32, 64, 128, 256))
    assert "single items were not measured, so what batching buys is not known: add 1 to --batch-sizes." in sentences[0]


@pytest.mark.parametrize("sizes", [(1,), (4,), ()])
def test_too_few_sizes_for_a_fit_say_nothing_of_gains(sizes: tuple[int, ...]) -> None:
    """One size, or none."""
    sweep = Sweep(points=[Samples(Shape(size), 1e-2, 5, samples_s=[1e-2] * 5) for size in sizes])
    found = only(rates({1: 100}), lambda found: setattr(found, "sweep", sweep))
    assert not any("throughput" in sentence for sentence in found.profile().sentences)
