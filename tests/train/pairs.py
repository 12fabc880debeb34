"""Queries and their texts, encoders of both, and a loss over all of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

if TYPE_CHECKING:
    from collections.abc import Sequence

Pair = tuple[torch.Tensor, torch.Tensor]


def encoders_of(*, dropout: float = 0.0, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Make an encoder of queries, and one of texts."""
    torch.manual_seed(seed)
    queries = nn.Sequential(nn.Linear(5, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 4), nn.Dropout(dropout))
    texts = nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.Dropout(dropout), nn.Linear(6, 4))
    return queries.double(), texts.double()


def pairs_of(sizes: Sequence[int], *, seed: int = 1) -> list[Pair]:
    """Make micro-batches of so many queries and texts."""
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randn(sum(sizes), 5, generator=generator, dtype=torch.float64)
    texts = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64)
    return list(zip(torch.split(queries, list(sizes)), torch.split(texts, list(sizes)), strict=True))


def contrast(queries: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Tell each query's text from all the others, and each text's query."""
    scores = normalize(queries, dim=-1) @ normalize(texts, dim=-1).T * 5
    labels = torch.arange(len(scores))
    return (cross_entropy(scores, labels) + cross_entropy(scores.T, labels)) / 2


def gradients_of(*modules: nn.Module) -> torch.Tensor:
    """Give the gradients of all parameters in a row."""
    everything = [parameter.grad for module in dict.fromkeys(modules) for parameter in module.parameters()]
    return torch.cat([gradient.flatten() for gradient in everything if gradient is not None])
