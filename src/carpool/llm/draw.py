"""Draw tokens from logits, each row by itself and with one random number: the inverse of its cumulative distribution.

Rows of a kind are computed together, and what is computed for a row does not depend on the others. Rows that are not
filtered never look at single tokens outside one block; those that are, look only at tokens that may be left.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.llm.draw_sorted import draw_sorted
from carpool.llm.filters import cut_by_p
from carpool.llm.largest import BLOCK, at_least_kth, block_maxima
from carpool.llm.sampling_params import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch
    from numpy.typing import NDArray

_OFTEN_ENOUGH = 1e-4
_FEW = 2048  # weights that are added up one by one
_TILE = 8  # rows whose probabilities are worked out at once, so that they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Draw:
    """A token to be drawn.

    Args:
        row: of the logits.
        params: how.
        uniform: the random number, 0 or more and below 1.
    """

    row: int
    params: SamplingParams
    uniform: float

    @property
    def needs_all(self) -> bool:
        """Whether the weights of all tokens matter: top-p's share is one of them, unless top-k went before."""
        return self.params.top_p < 1 and self.params.top_k <= 0


def draw(logits: torch.Tensor, draws: Sequence[Draw]) -> dict[int, int]:
    """Draw a token for each of some rows.

    Args:
        logits: (R, V).
        draws: the rows that one is drawn for, rising.

    Returns:
        The token of each row; none for a row whose logits are no numbers, or all -inf.
    """
    tokens = _draw_of_all(logits, [one for one in draws if not one.params.truncates])
    cut = [one for one in draws if one.params.truncates]
    if cut and logits.device.type != "cpu":
        return tokens | _draw_on_device(_rows(logits, cut), cut)
    for tile, rows in _probabilities(logits, [one for one in cut if one.needs_all]):
        arrays = rows.cpu().numpy()
        tokens.update((one.row, _draw_of_share(row, one)) for one, row in zip(tile, arrays, strict=True))
    few = [one for one in cut if not one.needs_all]
    if few:
        tokens.update(_draw_of_few(_rows(logits, few), few))
    return tokens


def _draw_on_device(rows: torch.Tensor, draws: Sequence[Draw]) -> dict[int, int]:
    drawn = draw_sorted(rows, [one.params for one in draws], [one.uniform for one in draws])
    return {one.row: token for one, token in zip(draws, drawn, strict=True) if token is not None}


def _rows(logits: torch.Tensor, draws: Sequence[Draw]) -> torch.Tensor:
    """(n, V): without a copy where the rows lie side by side."""
    first, last = draws[0].row, draws[-1].row
    if last - first == len(draws) - 1:
        return logits[first : last + 1]
    return logits[[one.row for one in draws]]


def _probabilities(logits: torch.Tensor, draws: Sequence[Draw]) -> Iterator[tuple[Sequence[Draw], torch.Tensor]]:
    """Give a few draws at a time, and (n, V) the probabilities of their tokens; leave out rows that have none.

    What is given is of use until the next is asked for: the memory is the same, and stays in the processor's cache.
    """
    import torch

    size = min(len(draws), _TILE) if logits.device.type == "cpu" else len(draws)
    room = logits.new_empty(2, size, logits.shape[1])
    for first in range(0, len(draws), size or 1):
        tile = draws[first : first + size]
        temperatures = torch.tensor([one.params.temperature for one in tile], dtype=logits.dtype, device=logits.device)
        scaled, probabilities = room[:, : len(tile)]
        torch.div(_rows(logits, tile), temperatures[:, None], out=scaled)
        torch.softmax(scaled, dim=-1, out=probabilities)
        usable = probabilities[:, 0].isfinite().tolist()  # one NaN or infinite logit makes all of its row NaN
        if all(usable):
            yield tile, probabilities
        elif any(usable):
            yield [one for one, can in zip(tile, usable, strict=True) if can], probabilities[torch.tensor(usable)]


def _draw_of_all(logits: torch.Tensor, draws: Sequence[Draw]) -> dict[int, int]:
    """Find the block first, then the token in it, so that one sum over all tokens is enough."""
    kept: list[Draw] = []
    sums: list[NDArray[Any]] = []
    for tile, probabilities in _probabilities(logits, draws):
        kept += tile
        sums.append(_block_sums(probabilities).cpu().numpy())
    if not kept:
        return {}
    blocks, rests = _invert(np.concatenate(sums), np.array([one.uniform for one in kept]))
    found = _blocks_of(logits, [one.row for one in kept], blocks)
    temperatures = np.array([one.params.temperature for one in kept])
    places, _ = _invert(np.exp((found - found.max(axis=1, keepdims=True)) / temperatures[:, None]), rests)
    tokens = (blocks * BLOCK + places).tolist()
    return {one.row: token for one, token in zip(kept, tokens, strict=True)}


def _block_sums(rows: torch.Tensor) -> torch.Tensor:
    """(n, ceil(V / 64)): what 64 neighbours add up to."""
    import torch

    whole = rows.shape[1] // BLOCK * BLOCK
    sums = rows[:, :whole].view(len(rows), whole // BLOCK, BLOCK).sum(-1)
    return sums if whole == rows.shape[1] else torch.cat([sums, rows[:, whole:].sum(-1, keepdim=True)], dim=1)


def _blocks_of(logits: torch.Tensor, rows: list[int], blocks: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 64): the logits of one block of each row; what would lie beyond the row is impossible."""
    import torch

    width = logits.shape[1]
    columns = blocks[:, None] * BLOCK + np.arange(BLOCK)
    places = torch.from_numpy(np.minimum(columns, width - 1) + width * np.array(rows)[:, None])
    found = logits.reshape(-1)[places.to(logits.device)].double().cpu().numpy()
    found[columns >= width] = -np.inf
    return found


def _invert(weights: NDArray[Any], uniforms: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find where cumulative weights pass a share of their total.

    Args:
        weights: (n, m) none below zero, some above it.
        uniforms: (n,) shares, 0 or more and below 1.

    Returns:
        (n,) places, of weights above zero; and how far into each the share lies, 0 or more and below 1.
    """
    reached = np.cumsum(weights, axis=1, dtype=np.float64)
    targets = np.minimum(uniforms * reached[:, -1], np.nextafter(reached[:, -1], 0))
    places = (reached <= targets[:, None]).sum(axis=1)
    rows = np.arange(len(weights))
    found = weights[rows, places].astype(np.float64)
    rests = (targets - (reached[rows, places] - found)) / found
    return places, np.clip(rests, 0, math.nextafter(1, 0))


def _draw_of_share(probabilities: NDArray[Any], one: Draw) -> int:
    """Draw from a row with top-p.

    What is left lies among any most likely tokens that together have top_p: mostly the few above a ten-thousandth.
    Tokens that are each less likely than (1 - top_p) / V are together less likely than 1 - top_p: none of them is left.
    """
    params = one.params
    places, weights = _at_least(probabilities, _OFTEN_ENOUGH)
    if weights.sum(dtype=np.float64) < params.top_p:
        places, weights = _at_least(probabilities, (1 - params.top_p) / len(probabilities) * 0.999)
    return _draw_of_marked(places, weights, cut_by_p(weights, 1.0, params.top_p, params.min_p), one.uniform)


def _at_least(probabilities: NDArray[Any], floor: float) -> tuple[NDArray[np.int64], NDArray[Any]]:
    places = np.flatnonzero(probabilities >= floor)
    return places, probabilities[places]


def _draw_of_few(logits: torch.Tensor, draws: Sequence[Draw]) -> list[tuple[int, int]]:
    """Draw from rows with top-k or min-p, which say by themselves which tokens may be left."""
    maxima = block_maxima(logits).cpu().numpy()
    rows = logits.cpu().numpy()
    usable = np.isfinite(maxima.max(axis=1))
    return [(one.row, _draw_of_row(rows[at], maxima[at], one)) for at, one in enumerate(draws) if usable[at]]


def _draw_of_row(row: NDArray[Any], maxima: NDArray[Any], one: Draw) -> int:
    params, peak = one.params, maxima.max()
    if params.top_k > 0:
        places = at_least_kth(row, maxima, params.top_k)
    else:
        places = np.flatnonzero(row >= peak + params.temperature * math.log(params.min_p) - 1e-3 * params.temperature)
    weights = np.exp((row[places].astype(np.float64) - float(peak)) / params.temperature)
    kept = cut_by_p(weights, float(weights.sum()), params.top_p, params.min_p)
    return _draw_of_marked(places, weights, kept, one.uniform)


def _draw_of_marked(places: NDArray[np.int64], weights: NDArray[Any], marked: NDArray[np.bool_], uniform: float) -> int:
    """Draw one of the places that are marked; of many, find the block first."""
    weights = weights * marked  # quicker than to pick them out, and no weight of 0 is ever drawn
    if len(weights) <= _FEW:
        reached = np.cumsum(weights, dtype=np.float64)
        target = min(uniform * reached[-1], math.nextafter(reached[-1], 0))
        return int(places[reached.searchsorted(target, side="right")])
    blocks, rests = _invert(np.add.reduceat(weights, np.arange(0, len(weights), BLOCK))[None], np.array([uniform]))
    first = int(blocks[0]) * BLOCK
    found, _ = _invert(weights[None, first : first + BLOCK], rests)
    return int(places[first + int(found[0])])
