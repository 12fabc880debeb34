"""Train a small byte-level language model at several effective batches, its loss exact to the token.

It learns to write numbers in words. Lines differ in length, and only the bytes of the words have a label: what the loss
of a window is divided by is their number, whichever micro-batch they are in.

Run it; it prints a table and draws `out/train-small-lm.png`::

    python examples/train_small_lm.py

Find the largest micro-batch (of the longest lines), and what each effective batch would take on this machine::

    carpool train-plan examples/train_small_lm.py:setup --effective-batch 512 --memory 2GiB
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from carpool.errors import CarpoolError
from carpool.train import TrainSetup, compare_batches

MOST = 10_000  # numbers are below
NUM_TRAINING, NUM_VALIDATION = 8_000, 100
WIDTH, NUM_HEADS, NUM_LAYERS, LONGEST = 32, 2, 2, 64
IGNORED = -100  # the label of what the model is not asked for
BATCHES = [4, 16, 64, 256]
MICRO_BATCH = 64  # items of a micro-batch at most: larger effective batches are accumulated
TARGET = 0.1  # cross-entropy of a byte of lines that are not trained on

UNITS = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]


def in_words(number: int) -> str:
    """Write a number in words.

    Args:
        number: from 0 to below a million.
    """
    if number < 20:
        return UNITS[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f"-{UNITS[number % 10]}" if number % 10 else "")
    if number < 1000:
        return f"{UNITS[number // 100]} hundred" + (f" and {in_words(number % 100)}" if number % 100 else "")
    return f"{in_words(number // 1000)} thousand" + (f" {in_words(number % 1000)}" if number % 1000 else "")


class Batch(NamedTuple):
    """Lines as bytes, padded to the longest of them."""

    tokens: torch.Tensor  # (B, T)
    labels: torch.Tensor  # (B, T): the next byte, or IGNORED


def to_batch(numbers: list[int]) -> Batch:
    """Write numbers as lines, such as `21=twenty-one.` for 21.

    Args:
        numbers: one a line.
    """
    lines = [f"{number}={in_words(number)}.".encode() for number in numbers]
    longest = max(map(len, lines)) - 1
    tokens = torch.zeros(len(lines), longest, dtype=torch.long)
    labels = torch.full((len(lines), longest), IGNORED)
    for row, line in enumerate(lines):
        there = torch.tensor(list(line))
        tokens[row, : len(line) - 1] = there[:-1]
        asked = line.index(b"=")
        labels[row, asked : len(line) - 1] = there[asked + 1 :]
    return Batch(tokens, labels)


class Layer(nn.Module):
    """Causal attention and a feed-forward part, each added to what comes in: (B, T, C) to (B, T, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)])
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed_forward = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute it.

        Args:
            x: (B, T, C).
        """
        parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, NUM_HEADS, -1))  # (B, T, 3, H, D)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        # Padding comes last, and no token looks ahead: it needs no mask.
        attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        added: torch.Tensor = x + self.feed_forward(self.norms[1](x))
        return added


class SmallLm(nn.Module):
    """A transformer over bytes: (B, T) to (B, T, 128)."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.places = nn.Embedding(128, WIDTH), nn.Embedding(LONGEST, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(NUM_LAYERS)), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 128))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Give a score for each next byte.

        Args:
            tokens: (B, T).
        """
        scores: torch.Tensor = self.layers(self.bytes(tokens) + self.places.weight[: tokens.shape[1]])
        return scores


def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Sum the cross-entropy over the bytes that have a label.

    Args:
        model: to train.
        batch: lines.
    """
    return functional.cross_entropy(
        model(batch.tokens).flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def count(batch: Batch) -> int:
    """Count the bytes that have a label.

    Args:
        batch: lines.
    """
    return int((batch.labels != IGNORED).sum())


def setup() -> TrainSetup:
    """Make what `carpool train-plan` and the runs below train: always the same weights and the same order."""
    torch.manual_seed(0)
    numbers = torch.randperm(MOST, generator=torch.Generator().manual_seed(1))[: NUM_TRAINING + NUM_VALIDATION].tolist()
    training, validation = numbers[:NUM_TRAINING], to_batch(numbers[NUM_TRAINING:])
    longest = max(training, key=lambda number: len(in_words(number)) + len(str(number)))
    model = SmallLm()
    generator = torch.Generator().manual_seed(0)

    def loader(micro_batch_size: int) -> Iterator[Batch]:
        for chosen in torch.split(torch.randperm(NUM_TRAINING, generator=generator), micro_batch_size):
            yield to_batch([training[index] for index in chosen.tolist()])

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        return float(loss(model, validation)) / count(validation)

    return TrainSetup(
        model=model,
        optimizer=torch.optim.AdamW(model.parameters(), lr=8e-3),
        loss=loss,
        loader=loader,
        num_items=NUM_TRAINING,
        count=count,
        worst_batch=lambda num_items: to_batch([longest] * num_items),
        validate=validate,
        base_batch_size=32,
    )


def main() -> None:
    """Train to one target at several effective batches, and print and draw what each of them took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="effective batches, in lines")
    parser.add_argument(
        "--target", type=float, default=TARGET, help="cross-entropy a byte to reach on lines kept apart"
    )
    parser.add_argument("--out", type=Path, default=Path("out/train-small-lm.png"), help="picture to draw")
    wanted = parser.parse_args()
    torch.set_num_threads(1)  # products as small as these gain nothing from a second thread
    try:
        compared = compare_batches(
            setup,
            wanted.batches,
            target=wanted.target,
            most_micro_batch=MICRO_BATCH,
            most_examples=400_000,
            watch=lambda run: print(run, flush=True),
        )
    except CarpoolError as error:
        parser.error(str(error))
    print(compared.table().to_text())
    print(f"Drawn: {compared.picture().save(wanted.out)}")


if __name__ == "__main__":
    main()
