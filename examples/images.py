"""Classify small images with a convolutional network in plain PyTorch.

The weights are random, and so are the images: how fast it runs does not depend on them, and what it answers means
nothing.

Run it::

    python examples/images.py

Measure what batching buys, and serve it::

    carpool profile examples/images.py:SmallConvNet
    carpool serve examples/images.py:SmallConvNet
"""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import carpool
from carpool.units import counted

NUM_CLASSES = 10
SHAPE = (3, 64, 64)  # channels, height, width


class SmallConvNet(nn.Module):
    """Four convolutions, each halving the image, then one linear layer: (B, 3, 64, 64) to (B, 10)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (SHAPE[0], 16, 32, 64, 128)
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            *(self._block(width, wider) for width, wider in itertools.pairwise(widths)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(widths[-1], NUM_CLASSES),
        )

    @staticmethod
    def _block(width: int, wider: int) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(width, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Give a score for each class.

        Args:
            images: (B, 3, 64, 64), stacked from single items.
        """
        scores: torch.Tensor = self.layers(images)
        return scores

    def examples(self, n: int) -> list[NDArray[np.float32]]:
        """Random images to measure with; every item must have their shape.

        Args:
            n: how many.
        """
        return list(np.random.default_rng(0).random((n, *SHAPE), dtype=np.float32))


def main() -> None:
    """Classify a few images, all in flight at once."""
    network = SmallConvNet()
    with carpool.Batcher(network, max_batch_size=16) as batcher:
        scores = batcher.map(network.examples(24))
        totals = batcher.metrics.totals()
    batches = counted(totals.num_batches, "batch")
    print(f"{len(scores)} images in {batches}; classes (random weights, so without meaning):")
    print(" ".join(str(int(row.argmax())) for row in scores))


if __name__ == "__main__":
    main()
