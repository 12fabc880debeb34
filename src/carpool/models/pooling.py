"""From the vectors of a text's tokens to one vector of the text."""

from collections.abc import Callable, Sequence

import torch


def pool(hidden: torch.Tensor, mask: torch.Tensor, modes: Sequence[str], *, normalize: bool) -> torch.Tensor:
    """Reduce the tokens' vectors to one a text, in float32.

    Args:
        hidden: the encoder's last layer, (B, L, D); padding is on the right.
        mask: 1 for a token and 0 for padding, (B, L), with at least one token a text.
        modes: ``"mean"``, ``"cls"``, ``"max"``, ...; several are joined to a longer vector.
        normalize: whether to scale the result to length 1.

    Returns:
        (B, D) for one mode, (B, D * len(modes)) for several.
    """
    hidden = hidden.float()
    vectors = torch.cat([_MODES[mode](hidden, mask) for mode in modes], dim=-1)
    return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors


def _cls(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    del mask
    return hidden[:, 0]


def _max(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(mask[..., None] == 0, float("-inf")).amax(dim=1)


def _weighted(hidden: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Sum of w_i h_i, as a product of matrices so that no (B, L, D) temporary is made."""
    return torch.bmm(weights[:, None].float(), hidden)[:, 0]


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _weighted(hidden, mask) / mask.sum(dim=1, keepdim=True)


def _mean_sqrt(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return _weighted(hidden, mask) / mask.sum(dim=1, keepdim=True).sqrt()


def _weighted_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    return _weighted(hidden, weights) / weights.sum(dim=1, keepdim=True)


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]


_MODES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
