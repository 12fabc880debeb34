"""How likely the model holds tokens: of its own distribution, before anything is done to the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.llm.largest import block_maxima, largest
from carpool.llm.sampled import Sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

_TILE = 16  # rows whose distributions are worked out at once: a few MB


class LogProbabilities:
    """The log probabilities of some rows of logits, kept while the logits are changed.

    Args:
        logits: (n, V); read, not kept.
    """

    def __init__(self, logits: torch.Tensor) -> None:
        import torch

        kept = torch.log_softmax(logits, dim=-1)
        self._rows: NDArray[Any] = kept.cpu().numpy()
        self._maxima: NDArray[Any] = block_maxima(kept).cpu().numpy()

    def of(self, row: int, token: int, num_top: int) -> Sampled:
        """Give the record of a token.

        Args:
            row: where its logits are.
            token: its id.
            num_top: how many of the most likely tokens to tell as well.
        """
        logprobs = self._rows[row]
        top = largest(logprobs, self._maxima[row], num_top) if num_top else ()
        return Sampled(token, float(logprobs[token]), tuple((int(other), float(logprobs[other])) for other in top))


def prompt_logprobs(logits: torch.Tensor, tokens: Sequence[int], num_top: int = 0) -> list[Sampled]:
    """Say how likely the model held the tokens of a prompt.

    Args:
        logits: (n, V); row i is the model's answer to what stands before `tokens[i]`.
        tokens: n ids: of a prompt, those from its second on.
        num_top: how many of the most likely tokens to tell as well.

    Returns:
        A record a token.
    """
    records: list[Sampled] = []
    for first in range(0, len(tokens), _TILE):
        tile = LogProbabilities(logits[first : first + _TILE])
        records += [tile.of(row, token, num_top) for row, token in enumerate(tokens[first : first + _TILE])]
    return records
