"""Train a small network on handwritten digits at several effective batches, and draw what that takes.

The digits are the 1,797 of scikit-learn (`pip install scikit-learn`), each training image also shifted by a pixel in
every direction.

Run it; it prints a table and draws `out/train-digits.png`::

    python examples/train_digits.py

Find the largest micro-batch, and what each effective batch would take on this machine::

    carpool train-plan examples/train_digits.py:setup --effective-batch 1024 --memory 2GiB
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

from carpool.errors import CarpoolError
from carpool.train import TrainSetup, compare_batches

NUM_VALIDATION = 360
BATCHES = [4, 16, 64, 256, 1024, 4096]
MICRO_BATCH = 256  # items of a micro-batch at most: larger effective batches are accumulated
TARGET = 0.2  # cross-entropy on images that are not trained on: about 95 % of them right


class Digits(nn.Module):
    """One hidden layer: (B, 8, 8) to (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give a score for each digit.

        Args:
            images: (B, 8, 8).
        """
        scores: torch.Tensor = self.layers(images)
        return scores


def load() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Load the images and digits to train on, and those to validate with."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images, labels = digits.images[order] / 16.0, digits.target[order]
    kept, rest = images[NUM_VALIDATION:], images[:NUM_VALIDATION]
    padded = np.pad(kept, ((0, 0), (1, 1), (1, 1)))
    shifted = [padded[:, down : down + 8, right : right + 8] for down, right in product(range(3), range(3))]
    return (
        torch.tensor(np.concatenate(shifted), dtype=torch.float32),
        torch.tensor(np.tile(labels[NUM_VALIDATION:], len(shifted))),
        torch.tensor(rest, dtype=torch.float32),
        torch.tensor(labels[:NUM_VALIDATION]),
    )


def setup() -> TrainSetup:
    """Make what `carpool train-plan` and the runs below train: always the same weights and the same order."""
    torch.manual_seed(0)
    images, labels, validation_images, validation_labels = load()
    model = Digits()
    generator = torch.Generator().manual_seed(0)

    def loader(micro_batch_size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in torch.split(torch.randperm(len(images), generator=generator), micro_batch_size):
            yield images[chosen], labels[chosen]

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        # The sum, not the mean: sums of micro-batches add up to that of the effective batch.
        return functional.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        return float(functional.cross_entropy(model(validation_images), validation_labels))

    return TrainSetup(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.5),
        loss=loss,
        loader=loader,
        num_items=len(images),
        validate=validate,
        base_batch_size=64,
    )


def main() -> None:
    """Train to one target at several effective batches, and print and draw what each of them took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="effective batches")
    parser.add_argument("--target", type=float, default=TARGET, help="cross-entropy to reach on images kept apart")
    parser.add_argument("--out", type=Path, default=Path("out/train-digits.png"), help="picture to draw")
    wanted = parser.parse_args()
    torch.set_num_threads(1)  # products as small as these gain nothing from a second thread
    try:
        compared = compare_batches(
            setup,
            wanted.batches,
            target=wanted.target,
            most_micro_batch=MICRO_BATCH,
            most_examples=2_000_000,
            watch=lambda run: print(run, flush=True),
        )
    except CarpoolError as error:
        parser.error(str(error))
    print(compared.table().to_text())
    print(f"Drawn: {compared.picture().save(wanted.out)}")


if __name__ == "__main__":
    main()
