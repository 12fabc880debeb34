"""How single calls of one shape scatter, in a few numbers that calculations can go through one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats: TypeAlias = NDArray[np.float64]

_MOST_FACTORS = 8
_NODES_A_CELL = 4
_NOTHING_LEFT = 1e-12  # relative to the largest factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """What a call's predicted time is multiplied by, and how often.

    Args:
        factors: The factors [k].
        weights: Their probabilities [k].
    """

    factors: Floats
    weights: Floats

    @classmethod
    def of(cls, call_spread: Sequence[float]) -> Scatter:
        """Take few factors with the same moments as a measured spread: mean, variance and so on up to the fifteenth.

        Args:
            call_spread: Quantiles, evenly spaced from 0 to 1 and joined by straight lines; empty for no scatter.

        Raises:
            ConfigError: They do not rise, or one is not a finite number above 0.

        Example:
            >>> scatter = Scatter.of([0.9, 1.0, 1.1])
            >>> len(scatter.factors), round(scatter.mean, 6)
            (8, 1.0)
        """
        quantiles = np.asarray(call_spread, dtype=np.float64)
        if (quantiles <= 0).any() or not np.isfinite(quantiles).all() or (np.diff(quantiles) < 0).any():
            raise ConfigError(
                f"call_spread {quantiles.tolist()} does not hold quantiles: give finite numbers above 0 that rise"
            )
        if len(quantiles) <= 1:
            return cls(factors=quantiles if len(quantiles) else np.ones(1), weights=np.ones(1))
        places, shares = np.polynomial.legendre.leggauss(_NODES_A_CELL)
        low, high = quantiles[:-1, None], quantiles[1:, None]
        values = (low + high) / 2 + (high - low) / 2 * places  # (cell, node)
        weights = np.broadcast_to(shares / shares.sum() / len(low), values.shape)
        return cls(**_condensed(values.ravel(), weights.ravel()))

    @property
    def mean(self) -> float:
        """Mean factor."""
        return float(self.weights @ self.factors)

    @property
    def second_moment(self) -> float:
        """Mean of the factor's square."""
        return float(self.weights @ self.factors**2)


def _condensed(values: Floats, weights: Floats) -> dict[str, Floats]:
    """Return the nodes and weights of the Gaussian quadrature that belongs to a distribution of many values.

    Source: Golub and Welsch, "Calculation of Gauss quadrature rules", 1969: the eigenvalues of the matrix that Lanczos'
        recurrence makes of the values.
    """
    before, vector, off = np.zeros_like(values), np.sqrt(weights), 0.0
    diagonal: list[float] = []
    offs: list[float] = []
    while len(diagonal) < _MOST_FACTORS:
        diagonal.append(float(vector @ (values * vector)))
        rest = (values - diagonal[-1]) * vector - off * before
        off = float(np.linalg.norm(rest))
        if off <= _NOTHING_LEFT * values.max():
            break
        before, vector = vector, rest / off
        offs.append(off)
    inner = offs[: len(diagonal) - 1]
    factors, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
    return {"factors": factors, "weights": vectors[0] ** 2}
