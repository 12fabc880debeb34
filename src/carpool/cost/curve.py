"""Time over batch size at one length: four forms, from the simplest to the one that assumes nothing but order."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from math import ceil, inf, sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np

from carpool.cost.least_squares import fit_affine, isotonic

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    FitCurve = Callable[[Floats, Floats, Floats], "Curve"]

CurveKind = Literal["linear", "hinge", "step", "isotonic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A time taken apart: `t(b) ~ max(floor, overhead + root sqrt(b) + per_item b)`, all in seconds.

    `overhead` and `floor` are what a larger batch shares out, `per_item` what it cannot.
    """

    overhead_s: float
    per_item_s: float
    root_s: float = 0.0
    floor_s: float = 0.0

    def batch_for_fraction(self, fraction: float) -> float:
        """Return the batch size at which throughput reaches `fraction` of its limit: `f / (1 - f) a / c` where linear.

        Args:
            fraction: Share of the limit `1 / per_item_s`, in [0, 1).
        """
        if self.per_item_s <= 0.0:
            return inf
        # c b >= f (a + r sqrt(b) + c b) is a quadratic in sqrt(b).
        quadratic, linear = self.per_item_s * (1.0 - fraction), fraction * self.root_s
        root = (linear + sqrt(linear**2 + 4.0 * quadratic * fraction * self.overhead_s)) / (2.0 * quadratic)
        return max(root**2, fraction * self.floor_s / self.per_item_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Seconds of a batch as a function of its size, at one length.

    Args:
        kind: `linear` `a + c b`; `hinge` `max(a_mem, a0 + c b)`; `step` `a + g ceil(b / T)`; `isotonic`: straight
            lines between knots, with `a` and `c` of the straight line nearest to them.
        params: The letters above, in seconds (`T` in items).
        knots: Batch sizes of an isotonic curve, ascending; empty for the others.
        knot_times_s: Seconds at each knot, non-decreasing.

    >>> Curve(kind="linear", params={"a": 0.002, "c": 0.001}).time_s(8)
    0.01
    """

    kind: CurveKind
    params: dict[str, float]
    knots: tuple[float, ...] = field(default=())
    knot_times_s: tuple[float, ...] = field(default=())

    def time_s(self, batch_size: float) -> float:
        """Return the predicted seconds of a batch of this many items (no check of any range)."""
        params = self.params
        if self.kind == "linear":
            return params["a"] + params["c"] * batch_size
        if self.kind == "hinge":
            return max(params["a_mem"], params["a0"] + params["c"] * batch_size)
        if self.kind == "step":
            return params["a"] + params["g"] * ceil(batch_size / params["T"])
        return self._between_knots(batch_size)

    def _between_knots(self, batch_size: float) -> float:
        """Interpolate in a straight line; outside the knots, go on along the nearest line without passing zero."""
        knots, times = self.knots, self.knot_times_s
        if len(knots) == 1:
            return times[0]
        right = min(max(bisect_right(knots, batch_size), 1), len(knots) - 1)
        left = right - 1
        share = (batch_size - knots[left]) / (knots[right] - knots[left])
        straight = times[left] + share * (times[right] - times[left])
        return straight if straight > 0.0 else times[0]

    def split(self) -> Split:
        """Take the curve apart into what a batch shares and what each item adds."""
        params = self.params
        if self.kind == "hinge":
            return Split(overhead_s=params["a0"], per_item_s=params["c"], floor_s=params["a_mem"])
        if self.kind == "step":
            return Split(overhead_s=params["a"], per_item_s=params["g"] / params["T"])
        return Split(overhead_s=params["a"], per_item_s=params["c"])


def fit_linear(batch_sizes: Floats, times_s: Floats, weights: Floats) -> Curve:
    """Fit `a + c b`, both at least 0: a cost of the call and a cost of each item.

    Args:
        batch_sizes: Batch sizes [n], ascending.
        times_s: Seconds [n].
        weights: Weights [n].
    """
    a, c = fit_affine(batch_sizes, times_s, weights)
    return Curve(kind="linear", params={"a": float(a), "c": float(c)})


def fit_hinge(batch_sizes: Floats, times_s: Floats, weights: Floats) -> Curve:
    """Fit `max(a_mem, a0 + c b)`: flat while the weights have to be read anyway, then limited by arithmetic.

    Every split of the ordered points into a flat part and a rising part of two or more is tried.
    Source: the roofline model, Williams, Waterman, Patterson, CACM 52(4), 2009, as a function of batch size.
    """
    num_points = len(batch_sizes)
    flat = np.arange(num_points) < np.arange(2, num_points - 1)[:, None]  # (splits, n)
    flat_weights = np.where(flat, weights, 0.0)
    a_mem = (flat_weights * times_s).sum(-1) / flat_weights.sum(-1)
    a0, c = fit_affine(batch_sizes, times_s, np.where(flat, 0.0, weights))
    fitted = np.maximum(a_mem[:, None], a0[:, None] + c[:, None] * batch_sizes)
    best = int(np.argmin((weights * (fitted - times_s) ** 2).sum(-1)))
    return Curve(kind="hinge", params={"a_mem": float(a_mem[best]), "a0": float(a0[best]), "c": float(c[best])})


def fit_step(batch_sizes: Floats, times_s: Floats, weights: Floats) -> Curve:
    """Fit `a + g ceil(b / T)`: work done in tiles of T items, a part-filled tile costing as much as a full one."""
    tiles = np.arange(2, int(batch_sizes[-1]) + 1)
    num_tiles = np.ceil(batch_sizes / tiles[:, None])  # (tiles, n)
    a, g = fit_affine(num_tiles, times_s, weights)
    fitted = a[:, None] + g[:, None] * num_tiles
    losses = (weights * (fitted - times_s) ** 2).sum(-1)
    # Sizes at powers of two cannot tell T = 16 from T = 17; real tiles are powers of two: prefer the roundest.
    equal = losses <= losses.min() * (1.0 + 1e-6) + 1e-18
    best = int(np.argmax(np.where(equal, tiles & -tiles, 0)))
    return Curve(kind="step", params={"a": float(a[best]), "g": float(g[best]), "T": float(tiles[best])})


def fit_isotonic(batch_sizes: Floats, times_s: Floats, weights: Floats) -> Curve:
    """Fit the nearest non-decreasing curve: a larger batch never takes less, and nothing else is assumed."""
    a, c = fit_affine(batch_sizes, times_s, weights)
    return Curve(
        kind="isotonic",
        params={"a": float(a), "c": float(c)},
        knots=tuple(batch_sizes.tolist()),
        knot_times_s=tuple(isotonic(times_s, weights).tolist()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveForm:
    """One form of curve: how it is fitted, how many parameters that uses, and how few points allow it."""

    kind: CurveKind
    fit: FitCurve
    num_params: int
    fewest_points: int


# From the simplest on: of forms that predict equally well, the first is taken.
CURVE_FORMS: tuple[CurveForm, ...] = (
    CurveForm(kind="linear", fit=fit_linear, num_params=2, fewest_points=1),
    CurveForm(kind="hinge", fit=fit_hinge, num_params=3, fewest_points=5),
    CurveForm(kind="step", fit=fit_step, num_params=3, fewest_points=5),
    CurveForm(kind="isotonic", fit=fit_isotonic, num_params=2, fewest_points=3),
)


def held_out_errors(form: CurveForm, batch_sizes: Floats, times_s: Floats, weights: Floats) -> Floats:
    """Predict each point from a fit to all others.

    Returns:
        Log ratios of prediction to measurement [n]; 0.05 is 5 % too slow.
    """
    errors = np.empty(len(batch_sizes))
    for index, (batch_size, time_s) in enumerate(zip(batch_sizes, times_s, strict=True)):
        rest = np.arange(len(batch_sizes)) != index
        curve = form.fit(batch_sizes[rest], times_s[rest], weights[rest])
        errors[index] = np.log(curve.time_s(float(batch_size)) / time_s)
    return errors
