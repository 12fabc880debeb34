"""The estimators against closed forms: every window that can be drawn, and intervals that hold the truth."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import inf
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from carpool.errors import ConfigError
from carpool.train.noise.estimate import NoiseAverages, WindowNorms

SIZES = (4, 12, 8, 8, 6, 10, 8, 8)  # of a window's micro-batches


@dataclass(frozen=True)
class Digits:
    """Softmax regression of the digits: the gradients of all items, as inner products of each two."""

    products: np.ndarray  # (n, n)

    @property
    def num_items(self) -> int:
        """Items in all."""
        return len(self.products)

    @property
    def truth(self) -> tuple[float, float]:
        """tr(Sigma) and |G|^2, from the gradient of every item."""
        squared = float(self.products.mean())
        variance = (float(np.trace(self.products)) / self.num_items - squared) * self.num_items / (self.num_items - 1)
        return variance, squared

    def window(self, items: np.ndarray, sizes: tuple[int, ...]) -> WindowNorms:
        """What a window of these items says, in micro-batches of these sizes."""
        starts = np.cumsum((0, *sizes[:-1]))
        sums = np.add.reduceat(np.add.reduceat(self.products[np.ix_(items, items)], starts, 0), starts, 1)
        squares = np.diag(sums) / np.square(sizes)
        return WindowNorms.of(sizes, squares.tolist(), float(sums.sum()) / len(items) ** 2)


def _digits(num_items: int, num_steps: int) -> Digits:
    """Gradients after so many steps of gradient descent from weights of 0."""
    data = load_digits()
    x = np.hstack([data.data[:num_items] / 16, np.ones((num_items, 1))])
    y = np.eye(10)[data.target[:num_items]]
    weights = np.zeros((x.shape[1], 10))

    def residuals() -> np.ndarray:
        logits = np.exp(x @ weights)
        return np.asarray(logits / logits.sum(1, keepdims=True) - y)

    for _ in range(num_steps):
        weights -= 0.5 * x.T @ residuals() / num_items
    errors = residuals()
    return Digits((errors @ errors.T) * (x @ x.T))  # one item's gradient is the outer product of x and its error


@pytest.mark.parametrize("sizes", [(2, 3), (1, 4), (2, 2, 2)])
def test_both_parts_are_exact_on_average_over_every_window_that_can_be_drawn(sizes: tuple[int, ...]) -> None:
    """Seven digits, without replacement: the mean over all ways to fill a window is the closed form to rounding."""
    digits = _digits(7, num_steps=3)

    def fillings(left: frozenset[int], sizes: tuple[int, ...]) -> list[tuple[int, ...]]:
        if not sizes:
            return [()]
        return [
            (*chosen, *rest)
            for chosen in combinations(sorted(left), sizes[0])
            for rest in fillings(left - set(chosen), sizes[1:])
        ]

    windows = [digits.window(np.array(one), sizes) for one in fillings(frozenset(range(7)), sizes)]
    parts = [window.parts(digits.num_items) for window in windows]
    assert list(np.mean(parts, axis=0)) == pytest.approx(list(digits.truth), rel=1e-12)


@pytest.mark.parametrize(("num_steps", "sizes"), [(0, SIZES), (30, SIZES), (30, (8, 8))])
def test_intervals_hold_the_noise_scale_of_the_digits_as_often_as_they_say(
    num_steps: int, sizes: tuple[int, ...]
) -> None:
    """Softmax regression, 30 windows each time: near the nominal 95 % hold it, at the start and once it has learnt.

    With small windows most intervals have no upper end; their lower ends are as right.
    """
    digits = _digits(1797, num_steps)
    variance, squared = digits.truth
    rng = np.random.default_rng(num_steps)

    def estimate() -> tuple[bool, float, float]:
        averages = NoiseAverages(num_items=digits.num_items)
        for _ in range(30):
            averages.add(digits.window(rng.permutation(digits.num_items)[: sum(sizes)], sizes))
        found = averages.estimate()
        return found.low <= variance / squared <= found.high, found.S, found.G2

    held, variances, squares = zip(*(estimate() for _ in range(400)), strict=True)
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)
    for found, true in ((variances, variance), (squares, squared)):
        assert np.mean(found) == pytest.approx(true, abs=4 * np.std(found) / np.sqrt(len(found)))


def test_independent_items_need_no_correction() -> None:
    """With replacement the plain formula holds: the correction for a finite pass would be wrong by `tr(Sigma)/n`."""
    digits = _digits(40, num_steps=20)
    rng = np.random.default_rng(0)
    windows = [digits.window(rng.integers(0, 40, 16), (4, 4, 4, 4)) for _ in range(6000)]
    plain, finite = (np.mean([window.parts(num_items) for window in windows], axis=0) for num_items in (None, 40))
    variance, squared = digits.truth
    assert plain[0] == pytest.approx(variance * 39 / 40, rel=0.02)
    assert plain[1] == pytest.approx(squared, rel=0.05)
    assert finite[1] > 1.2 * squared


def test_gradient_that_is_all_noise_is_not_identified() -> None:
    """Nothing but scatter: the noise scale has no upper end, and the words say so."""
    rng = np.random.default_rng(1)
    averages = NoiseAverages()
    for _ in range(20):
        means = rng.normal(0.0, 1.0, (4, 50)) / np.sqrt(8)
        averages.add(WindowNorms.of([8] * 4, np.square(means).sum(1).tolist(), float(np.square(means.mean(0)).sum())))
    found = averages.estimate()
    assert not found.identified
    assert found.high == inf
    assert found.low > 32
    assert found.text == (
        "noise scale not identified: the gradient can't be told from its noise (95%, 20 windows); "
        f"it is at least {found.low:.0f}"
    )


def test_too_few_windows_are_not_enough() -> None:
    """Two windows do not say how windows scatter, and none says nothing."""
    averages = NoiseAverages()
    assert averages.estimate().text == (
        "noise scale not identified: 0 windows of at least 2 micro-batches seen, and it takes 3"
    )
    for _ in range(2):
        averages.add(WindowNorms.of([8, 8], [3.0, 2.0], 2.0))
    found = averages.estimate()
    assert (found.identified, found.low, found.high) == (False, 0.0, inf)


def test_gradients_without_noise_have_a_noise_scale_of_nothing() -> None:
    """All micro-batches alike: 0, surely, though nothing scatters."""
    averages = NoiseAverages()
    for _ in range(5):
        averages.add(WindowNorms.of([8, 8], [2.0, 2.0], 2.0))
    found = averages.estimate()
    assert (found.noise_scale, found.low, found.high, found.identified) == (0.0, 0.0, 0.0, True)


def test_older_windows_fade() -> None:
    """With a decay the estimate follows a noise scale that has changed; without, it is the mean of all."""
    fading, lasting = NoiseAverages(decay=0.9), NoiseAverages()
    for variance in (8.0,) * 100 + (80.0,) * 100:
        window = WindowNorms.of([8, 8], [1 + variance / 8] * 2, 1 + variance / 16)
        fading.add(window)
        lasting.add(window)
    assert fading.estimate().noise_scale == pytest.approx(80.0, rel=0.01)
    assert lasting.estimate().noise_scale == pytest.approx(44.0)


def test_averages_are_divided_last() -> None:
    """The ratio of means, not the mean of ratios, and windows count by their items."""
    averages = NoiseAverages()
    averages.add(WindowNorms.of([8, 8], [3.0, 3.0], 2.0))  # parts 16 and 1
    averages.add(WindowNorms.of([24, 24], [3.0, 3.0], 2.0))  # parts 48 and 1
    assert averages.estimate().noise_scale == pytest.approx((16 * 16 + 48 * 48) / (16 + 48))


@given(st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1e6)), min_size=2, max_size=12))
def test_empty_micro_batches_change_nothing(pairs: list[tuple[int, float]]) -> None:
    """Those without a valid item count neither as micro-batches nor by their norm."""
    full = [(size, square) for size, square in pairs if size]
    with_empty = WindowNorms.of([size for size, _ in pairs], [square for _, square in pairs], 0.0)
    without = WindowNorms.of([size for size, _ in full], [square for _, square in full], 0.0)
    assert with_empty == without


def test_one_micro_batch_says_nothing() -> None:
    """And says what would."""
    with pytest.raises(ConfigError, match="a window of 1 micro-batch says nothing of the noise: it takes 2"):
        WindowNorms.of([8, 0], [1.0, 0.0], 1.0).parts()


def test_mean_that_is_longer_than_its_parts_is_refused() -> None:
    """No mean can be: gradients were not seen, or scaled by something else."""
    with pytest.raises(ConfigError, match=r"squared norm 4, and its micro-batches' only 2 on average"):
        WindowNorms.of([8, 8], [2.0, 2.0], 4.0).parts()


def test_window_of_more_items_than_there_are_is_refused() -> None:
    """Items and tokens were mixed up."""
    with pytest.raises(ConfigError, match=r"a window has 16 valid items, and num_items says that there are 10 in all"):
        WindowNorms.of([8, 8], [2.0, 2.0], 1.0).parts(10)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"decay": 0.5}, "decay is 0.5"),
        ({"decay": 1.01}, "decay is 1.01"),
        ({"decay": float("nan")}, "decay is nan"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"confidence": 95}, "confidence is 95"),
        ({"decay": "0.9"}, "decay is '0.9'"),
        ({"confidence": None}, "confidence is None"),
        ({"num_items": 0}, "num_items is 0"),
    ],
)
def test_knobs_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    """Each by its name and value."""
    with pytest.raises(ConfigError, match=said):
        NoiseAverages(**wrong)


def test_averages_survive_a_checkpoint() -> None:
    """The estimate after a restart is what it was, and what is no checkpoint is refused."""
    averages = NoiseAverages(decay=0.95)
    for first in (3.0, 2.5, 4.0, 3.5):
        averages.add(WindowNorms.of([8, 8], [first, 2.0], 2.0))
    again = NoiseAverages(decay=0.95)
    again.load_state_dict(averages.state_dict())
    assert again.estimate() == averages.estimate()
    with pytest.raises(ConfigError, match="can't be read"):
        again.load_state_dict({"num_windows": 3})
