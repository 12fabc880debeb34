"""What is added to and taken off logits before a token is chosen: bias, penalties, and tokens that may not come yet.

Sources: frequency and presence penalty as OpenAI's API reference defines them, over generated tokens; repetition
penalty as in Keskar et al. 2019, "CTRL", section 4.1, over the prompt too, with negative logits multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.llm.sampling_params import SamplingParams

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import torch
    from numpy.typing import NDArray


class TokenCounts:
    """The tokens that a sequence has said, each once, and how often each was generated.

    Args:
        prompt: its prompt's tokens, which count as said, and as generated no time.
    """

    def __init__(self, prompt: Iterable[int] = ()) -> None:
        self._places = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        room = 2 * len(self._places) + 64
        self._ids = np.zeros(room, dtype=np.int64)
        self._ids[: len(self._places)] = list(self._places)
        self._counts = np.zeros(room, dtype=np.float32)

    def add(self, token: int) -> None:
        """Count a token that was generated."""
        place = self._places.setdefault(token, len(self._places))
        if place == len(self._ids):
            self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._ids[place] = token
        self._counts[place] += 1

    @property
    def ids(self) -> NDArray[np.int64]:
        """(n,) the tokens."""
        return self._ids[: len(self._places)]

    @property
    def counts(self) -> NDArray[np.float32]:
        """(n,) how often each was generated."""
        return self._counts[: len(self._places)]


@dataclass(frozen=True, slots=True)
class Penalty:
    """The penalties of a row of logits.

    Args:
        row: which.
        said: what its sequence has said.
        params: how much that counts.
    """

    row: int
    said: TokenCounts
    params: SamplingParams


def penalise(logits: torch.Tensor, penalties: Sequence[Penalty]) -> None:
    """Apply repetition, frequency and presence penalties, in place; all rows at once.

    Args:
        logits: (R, V), contiguous.
        penalties: at most one a row.
    """
    if not penalties:
        return
    lengths = [len(penalty.said.ids) for penalty in penalties]
    counts = np.concatenate([penalty.said.counts for penalty in penalties])
    params = [penalty.params for penalty in penalties]
    repetition = np.repeat([param.repetition_penalty for param in params], lengths)
    taken = np.repeat([param.frequency_penalty for param in params], lengths) * counts
    taken += np.repeat([param.presence_penalty for param in params], lengths) * (counts > 0)
    places = _flat(logits, [(penalty.row, penalty.said.ids) for penalty in penalties])
    flat = logits.view(-1)
    found, factors = flat[places], _like(logits, repetition)
    flat[places] = (found / factors).where(found > 0, found * factors) - _like(logits, taken)


def add_bias(logits: torch.Tensor, biases: Sequence[tuple[int, NDArray[np.int64], NDArray[np.float64]]]) -> None:
    """Add to the logits of some tokens, in place.

    Args:
        logits: (R, V), contiguous.
        biases: at most one a row: the row, tokens, and what to add to each.
    """
    if biases:
        places = _flat(logits, [(row, ids) for row, ids, _ in biases])
        logits.view(-1)[places] += _like(logits, np.concatenate([added for _, _, added in biases]))


def forbid(logits: torch.Tensor, forbidden: Sequence[tuple[int, NDArray[np.int64]]]) -> None:
    """Make tokens impossible, in place.

    Args:
        logits: (R, V), contiguous.
        forbidden: rows, and the tokens that may not come in them; those that there are not need no words.
    """
    if forbidden:
        there = [(row, ids[ids < logits.shape[1]]) for row, ids in forbidden]
        logits.view(-1)[_flat(logits, there)] = -np.inf


def _flat(logits: torch.Tensor, tokens: Sequence[tuple[int, NDArray[np.int64]]]) -> torch.Tensor:
    """Where tokens of rows are in the logits laid end to end."""
    import torch

    width = logits.shape[1]
    return torch.from_numpy(np.concatenate([ids + row * width for row, ids in tokens])).to(logits.device)


def _like(logits: torch.Tensor, numbers: NDArray[np.float64]) -> torch.Tensor:
    import torch

    return torch.from_numpy(numbers).to(device=logits.device, dtype=logits.dtype)
