"""The three small solvers that every fit here is made of; numpy only, so that they run wherever the core runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# Coefficients of columns scaled to length 1: below this a coefficient is rounding error, not a term.
TINY = 1e-15


def fit_affine(x: Floats, y: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Fit `y = a + c x` with `a >= 0` and `c >= 0` by weighted least squares, for many fits at once.

    Args:
        x: Abscissae [..., n], positive.
        y: Ordinates [..., n], positive.
        weights: Non-negative weights [..., n]; 0 leaves a point out.

    Returns:
        `(a, c)`, each [...]. Where only one abscissa has weight, half of `y` is taken to be `a`: nothing says more.
    """
    total = weights.sum(-1)
    mean_x = (weights * x).sum(-1) / total
    mean_y = (weights * y).sum(-1) / total
    deviation = x - mean_x[..., None]
    spread = (weights * deviation**2).sum(-1)
    alone = spread <= 1e-12 * total * mean_x**2
    slope = (weights * deviation * y).sum(-1) / np.where(alone, 1.0, spread)
    slope = np.maximum(np.where(alone, 0.5 * mean_y / mean_x, slope), 0.0)
    offset = mean_y - slope * mean_x
    through_zero = (weights * x * y).sum(-1) / (weights * x**2).sum(-1)
    negative = offset < 0.0
    return np.where(negative, 0.0, offset), np.where(negative, through_zero, slope)


def isotonic(y: Floats, weights: Floats) -> Floats:
    """Return the non-decreasing sequence nearest to `y`, by pooling adjacent violators.

    Args:
        y: Values [n] in order of their abscissae.
        weights: Positive weights [n].

    Source: Barlow, Bartholomew, Bremner, Brunk, *Statistical Inference under Order Restrictions*, 1972, section 1.2.
    """
    values: list[float] = []
    masses: list[float] = []
    counts: list[int] = []
    for value, weight in zip(y.tolist(), weights.tolist(), strict=True):
        mean, mass, count = value, weight, 1
        while values and values[-1] > mean:
            other = masses.pop()
            mean = (mean * mass + values.pop() * other) / (mass + other)
            mass += other
            count += counts.pop()
        values.append(mean)
        masses.append(mass)
        counts.append(count)
    return np.repeat(np.array(values), counts)


def nonnegative(matrix: Floats, y: Floats) -> Floats:
    """Solve `min |matrix x - y|` over `x >= 0` by the active-set method.

    Args:
        matrix: Design matrix [n, k], already weighted; columns may differ by orders of magnitude.
        y: Targets [n], already weighted.

    Returns:
        Coefficients [k], none negative.

    Source: Lawson and Hanson, *Solving Least Squares Problems*, 1974, chapter 23.
    """
    scale = np.linalg.norm(matrix, axis=0)
    scale[scale == 0.0] = 1.0
    scaled = matrix / scale
    num_columns = scaled.shape[1]
    x = np.zeros(num_columns)
    passive = np.zeros(num_columns, dtype=bool)
    tolerance = 1e-10 * (1.0 + float(np.linalg.norm(y)))
    for _ in range(10 * num_columns):
        gradient = np.where(passive, -np.inf, scaled.T @ (y - scaled @ x))
        entering = int(np.argmax(gradient))
        if gradient[entering] <= tolerance:
            break
        passive[entering] = True
        _restore_feasibility(scaled, y, x, passive)
    return np.asarray(x / scale)


def _restore_feasibility(matrix: Floats, y: Floats, x: Floats, passive: NDArray[np.bool_]) -> None:
    """Move `x` to the best point of the passive set, and drop (in place) the columns that would turn negative."""
    while passive.any():
        target = np.zeros_like(x)
        target[passive] = np.linalg.lstsq(matrix[:, passive], y, rcond=None)[0]
        blocked = passive & (target <= 0.0)
        if not blocked.any():
            x[:] = target
            return
        gaps = x[blocked] - target[blocked]
        step = float(np.min(np.where(gaps > 0.0, x[blocked] / np.where(gaps > 0.0, gaps, 1.0), 0.0)))
        x += step * (target - x)
        passive &= x > TINY
        x[~passive] = 0.0
