"""A language model small enough for float64, and texts of different lengths for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import nll_loss

from carpool.train import Accumulator, BatchPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from carpool.train import WindowResult

NO_LABEL = -100
NUM_WORDS = 11


class Texts(NamedTuple):
    """Texts, padded to the longest of them."""

    words: torch.Tensor  # (texts, length)
    labels: torch.Tensor  # (texts, length); NO_LABEL where nothing is to be learnt

    def split(self, sizes: Sequence[int]) -> list[Texts]:
        """Cut into micro-batches of so many texts."""
        words, labels = torch.split(self.words, list(sizes)), torch.split(self.labels, list(sizes))
        return [Texts(*both) for both in zip(words, labels, strict=True)]


class LanguageModel(nn.Module):
    """Says of each word which may be next, from all words before it."""

    def __init__(self, *, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.embed = nn.Embedding(NUM_WORDS, 5)
            self.mix = nn.Linear(5, 7)
            self.out = nn.Linear(7, NUM_WORDS)
        self.double()

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """Give the logarithms of the probabilities, (texts, length, words)."""
        logits: torch.Tensor = self.out(self.mix(self.embed(words).cumsum(dim=1)).tanh())
        return logits.log_softmax(dim=-1)


def texts_of(lengths: Iterable[int], *, seed: int = 0) -> Texts:
    """Make texts with so many labels each."""
    counts = torch.tensor(list(lengths))
    generator = torch.Generator().manual_seed(seed)
    shape = (len(counts), max(1, int(counts.max())))
    words = torch.randint(NUM_WORDS, shape, generator=generator)
    labels = torch.randint(NUM_WORDS, shape, generator=generator)
    return Texts(words, labels.masked_fill(torch.arange(shape[1]) >= counts[:, None], NO_LABEL))


def count_labels(texts: Texts) -> int:
    """Count what is to be learnt from."""
    return int((texts.labels != NO_LABEL).sum())


def summed_loss(model: nn.Module, texts: Texts) -> torch.Tensor:
    """Sum the loss over the labels."""
    return nll_loss(model(texts.words).flatten(0, 1), texts.labels.flatten(), ignore_index=NO_LABEL, reduction="sum")


def mean_loss(model: nn.Module, texts: Texts) -> torch.Tensor:
    """Average the loss over the labels, as most models of Hugging Face do."""
    return nll_loss(model(texts.words).flatten(0, 1), texts.labels.flatten(), ignore_index=NO_LABEL)


def weights_of(model: nn.Module) -> torch.Tensor:
    """All parameters in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def largest_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference of two vectors, against the largest entry."""
    return float((one - other).abs().max() / other.abs().max())


TEXTS = texts_of([6, 1, 0, 0, 2, 5, 3, 1, 4], seed=3)
CUT = (2, 2, 3, 2)  # of 7, 0, 10 and 5 labels


def train(
    windows: Sequence[Sequence[Texts]], *, loss: Callable[..., torch.Tensor] = summed_loss, **options: Any
) -> tuple[torch.Tensor, list[WindowResult]]:
    """Train a new model on windows of micro-batches, and give its weights and the results."""
    model = LanguageModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    plan = BatchPlan(effective_batch_size=1 << 20, micro_batch_size=1 << 10)
    accumulator = Accumulator(model, optimizer, plan=plan, count=count_labels, **options)
    results = [accumulator.step(window, loss) for window in windows]
    return weights_of(model), results
