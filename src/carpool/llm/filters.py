"""Which tokens are likely enough to be drawn: the cut of top-k, top-p and min-p, in this order, without a full sort.

Each works on what the one before it left, with probabilities that add up to 1 again, as in transformers.
Sources: top-k, Fan et al. 2018, "Hierarchical Neural Story Generation"; top-p, Holtzman et al. 2020, "The Curious Case
of Neural Text Degeneration"; min-p, Nguyen et al. 2024, "Turning Up the Heat".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SORTED_AT_ONCE = 2048


def nucleus(weights: NDArray[Any], mass: float) -> NDArray[np.bool_]:
    """Mark the fewest weights, largest first and level ones by place, that add up to `mass` at least.

    Args:
        weights: (n,) none below zero, the largest above it.
        mass: what they are to add up to; where all together do not, all are marked.
    """
    if len(weights) <= _SORTED_AT_ONCE:
        return _nucleus_by_sorting(weights, mass)
    # Only the weights of the bin where the mass is reached need an order.
    bins = _bins(weights)
    reached = np.cumsum(np.bincount(bins, weights))
    edge = int(np.searchsorted(reached, mass))
    marked: NDArray[np.bool_] = bins < edge
    at_edge = np.flatnonzero(bins == edge)
    before = float(reached[edge - 1]) if edge else 0.0
    marked[at_edge] = _nucleus_by_sorting(weights[at_edge], mass - before)
    return marked


def _bins(weights: NDArray[Any]) -> NDArray[np.int64]:
    """Sort into bins, 16 to each factor of 2, the largest first: floats above zero are ordered as their bits are."""
    bits = np.finfo(weights.dtype).bits
    first_bits = weights.view(f"i{bits // 8}") >> (np.finfo(weights.dtype).nmant - 4)
    bins: NDArray[np.int64] = (first_bits.max() - first_bits).astype(np.int64)
    return bins


def _nucleus_by_sorting(weights: NDArray[Any], mass: float) -> NDArray[np.bool_]:
    order = np.argsort(-weights, kind="stable")
    before = np.cumsum(weights[order], dtype=np.float64) - weights[order]
    marked = np.empty(len(weights), dtype=np.bool_)
    marked[order] = before < mass
    marked[order[:1]] = True
    return marked


def cut_by_p(weights: NDArray[Any], total: float, top_p: float, min_p: float) -> NDArray[np.bool_]:
    """Mark the weights that top-p and min-p leave.

    Args:
        weights: (n,) in proportion to probabilities: the largest of a distribution, and all that may be left of it.
        total: what the whole distribution adds up to.
        top_p: the share of it to keep; 1 keeps all.
        min_p: the least that may be left, in proportion to the largest; 0 keeps all.
    """
    marked: NDArray[np.bool_] = weights >= min_p * weights.max()
    return marked & nucleus(weights, top_p * total) if top_p < 1 else marked
