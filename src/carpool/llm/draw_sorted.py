"""Draw tokens with top-k, top-p and min-p from sorted rows: for devices that sort quickly and copy slowly."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from carpool.llm.sampling_params import SamplingParams


def draw_sorted(logits: torch.Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> list[int | None]:
    """Draw a token for each row.

    Args:
        logits: (n, V).
        params: how, for each row.
        uniforms: a random number for each row, 0 or more and below 1.

    Returns:
        The tokens; None where the largest logit is no finite number.
    """
    import torch

    def column(numbers: Sequence[float]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.float64, device=logits.device)[:, None]  # (n, 1)

    ordered = logits.sort(dim=-1, descending=True, stable=True)
    peaks = ordered.values[:, :1]
    weights = ((ordered.values - peaks).double() / column([one.temperature for one in params])).exp()  # (n, V)
    last = column([min(one.top_k, logits.shape[1]) if one.top_k > 0 else logits.shape[1] for one in params]).long() - 1
    weights *= ordered.values >= ordered.values.gather(1, last)
    reached = weights.cumsum(-1)
    masses = column([one.top_p if one.top_p < 1 else math.inf for one in params]) * reached[:, -1:]
    weights *= (reached - weights < masses) & (weights >= column([one.min_p for one in params]))
    reached = weights.cumsum(-1)
    places = (reached <= column(uniforms) * reached[:, -1:]).sum(-1, keepdim=True)
    places = places.minimum((weights > 0).sum(-1, keepdim=True) - 1).clamp(min=0)
    tokens = ordered.indices.gather(1, places)[:, 0].tolist()
    return [token if math.isfinite(peak) else None for token, peak in zip(tokens, peaks[:, 0].tolist(), strict=True)]
