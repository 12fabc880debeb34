"""How likely the model holds tokens: of its own distribution, before anything is done to the logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.llm.largest import block_maxima, largest
from carpool.llm.sampled import Sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_TILE = 16  # rows whose distributions are worked out at once: a few MB


def records(logprobs: torch.Tensor, tokens: Sequence[int], num_tops: Sequence[int]) -> list[Sampled]:
    """Say how likely the model held tokens.

    Args:
        logprobs: (n, V) log probabilities.
        tokens: n ids.
        num_tops: how many of the most likely tokens to tell beside each.
    """
    import torch

    chosen = logprobs.gather(1, torch.tensor(tokens, device=logprobs.device)[:, None])[:, 0].tolist()
    likely = tops if logprobs.device.type == "cpu" else tops_by_sorting
    told = likely(logprobs, num_tops) if any(num_tops) else [()] * len(tokens)
    return [Sampled(token, logprob, top) for token, logprob, top in zip(tokens, chosen, told, strict=True)]


def tops(logprobs: torch.Tensor, num_tops: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
    """Find the most likely tokens of each row, level ones by id.

    Args:
        logprobs: (n, V), on the CPU.
        num_tops: how many of each row.
    """
    array, maxima = logprobs.numpy(), block_maxima(logprobs).numpy()
    places = [largest(array[row], maxima[row], num).tolist() if num else [] for row, num in enumerate(num_tops)]
    return [tuple((place, float(array[row, place])) for place in found) for row, found in enumerate(places)]


def tops_by_sorting(logprobs: torch.Tensor, num_tops: Sequence[int]) -> list[tuple[tuple[int, float], ...]]:
    """Find the same on a device that sorts quickly and copies slowly.

    Args:
        logprobs: (n, V).
        num_tops: how many of each row.
    """
    most = logprobs.sort(dim=-1, descending=True, stable=True)
    tokens, found = most.indices[:, : max(num_tops)].tolist(), most.values[:, : max(num_tops)].tolist()
    return [tuple(zip(tokens[row][:num], found[row][:num], strict=True)) for row, num in enumerate(num_tops)]


def prompt_logprobs(logits: torch.Tensor, tokens: Sequence[int], num_top: int = 0) -> list[Sampled]:
    """Say how likely the model held the tokens of a prompt.

    Args:
        logits: (n, V); row i is the model's answer to what stands before `tokens[i]`.
        tokens: n ids: of a prompt, those from its second on.
        num_top: how many of the most likely tokens to tell beside each.

    Returns:
        A record a token.
    """
    import torch

    told: list[Sampled] = []
    for first in range(0, len(tokens), _TILE):
        tile = tokens[first : first + _TILE]
        told += records(torch.log_softmax(logits[first : first + _TILE], dim=-1), tile, [num_top] * len(tile))
    return told
