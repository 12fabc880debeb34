"""Accumulation against another's: equal streams of gradients take Optax's `MultiSteps` to the same weights.

The weights below are those of Optax 0.2.8 on JAX 0.10.2, in float64, with `optax.MultiSteps(rule, every_k_schedule=4)`
on the gradients of `STREAM`, from the weights `START`; Optax rounds learning rates to float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ExponentialLR

from carpool.train import Accumulator, BatchPlan

if TYPE_CHECKING:
    from collections.abc import Callable

START = (1.0, -2.0, 0.5)
STREAM = [[((7 * i + 3 * j * j + i * i * j) % 13 - 5) / 4 for j in range(3)] for i in range(12)]
PLAN = BatchPlan(effective_batch_size=4, micro_batch_size=1)

Weights = list[list[float]]


class Product(nn.Module):
    """Has the item itself as its gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(START, dtype=torch.float64))

    def forward(self, item: torch.Tensor) -> torch.Tensor:
        """Multiply an item, (1, 3), with the weights."""
        return (self.weight * item).sum()


def learn(make: Callable[[Any], optim.Optimizer], *, decay: float | None = None, **options: Any) -> Weights:
    """Train on the stream, and give the weights after each window."""
    model = Product()
    optimizer = make(model.parameters())
    scheduler = ExponentialLR(optimizer, decay) if decay else None
    accumulator = Accumulator(model, optimizer, plan=PLAN, scheduler=scheduler, **options)
    weights = []
    for window in accumulator.windows(torch.tensor([gradient], dtype=torch.float64) for gradient in STREAM):
        for item in window:
            window.backward(model(item))
        weights.append(model.weight.tolist())
    return weights


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            lambda weights: optim.SGD(weights, lr=0.1, momentum=0.9),
            [
                [1.0249999985098839, -2.056249998509884, 0.3749999970197677],
                [1.022499997355044, -2.181874995678663, 0.23124999582767483],
                [0.945249997060746, -2.2949374929443, 0.10812499512732025],
            ],
            id="momentum",
        ),
        pytest.param(
            lambda weights: optim.SGD(weights, lr=0.1, momentum=0.9, nesterov=True),
            [
                [1.0474999971687793, -2.1068749971687795, 0.2624999943375587],
                [1.020249996315688, -2.294937493130565, 0.10187499475479123],
                [0.8757249967958778, -2.3966937404833737, -0.0026875055029988576],
            ],
            id="nesterov",
        ),
        pytest.param(
            lambda weights: optim.Adam(weights, lr=0.01),
            [
                [1.0099999996, -2.0099999998222224, 0.49000000008],
                [1.0094736835708156, -2.019973228447506, 0.48169402492860136],
                [1.0035212370945814, -2.0276825630415054, 0.4755908431847704],
            ],
            id="adam",
        ),
        pytest.param(
            lambda weights: optim.AdamW(weights, lr=0.01, weight_decay=0.1),
            [
                [1.0089999996, -2.007999999822222, 0.48950000008],
                [1.0074646835712155, -2.0159652284476834, 0.4807045249285214],
                [1.00050477241141, -2.021658597813235, 0.4741206386597619],
            ],
            id="adamw",
        ),
    ],
)
def test_equal_gradients_lead_to_the_same_weights(make: Callable[[Any], optim.Optimizer], expected: Weights) -> None:
    """The optimiser's state moves once a window, by the mean."""
    for weights, optax in zip(learn(make), expected, strict=True):
        assert weights == pytest.approx(optax, abs=2e-8)


def test_the_mean_of_a_window_is_what_is_clipped() -> None:
    """As in `optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9))`; torch adds a millionth."""
    expected = [
        [1.0089712254294003, -2.0201852578845587, 0.45514386910991167],
        [1.0023410356519125, -2.082464867424729, 0.39639298621839675],
        [0.9465465769638254, -2.1385165158871344, 0.34766946589547293],
    ]
    clipped = learn(lambda weights: optim.SGD(weights, lr=0.1, momentum=0.9), max_norm=0.5)
    for weights, optax in zip(clipped, expected, strict=True):
        assert weights == pytest.approx(optax, abs=1e-6)


def test_the_schedule_goes_by_windows() -> None:
    """As in `optax.sgd(optax.exponential_decay(0.1, 1, 0.5))`, which halves the learning rate once a window."""
    expected = [
        [1.024999998882413, -2.0562499993480743, 0.37499999515712257],
        [1.0124999987892807, -2.0937499991618096, 0.35937499566935],
        [0.9937499986961484, -2.0937499991152433, 0.36093749578576534],
    ]
    scheduled = learn(lambda weights: optim.SGD(weights, lr=0.1), decay=0.5)
    for weights, optax in zip(scheduled, expected, strict=True):
        assert weights == pytest.approx(optax, abs=2e-8)
