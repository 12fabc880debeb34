"""The noise scale of a model that trains: what the hooks see, and that it is the closed form's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.estimate import WindowNorms
from carpool.train.noise.listener import NoiseScale
from carpool.train.window import WindowResult, WindowStart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Batch = tuple[torch.Tensor, torch.Tensor]
SIZES = (5, 3, 8)


def _squares(model: nn.Module, batch: Batch) -> torch.Tensor:
    inputs, targets = batch
    return torch.as_tensor((model(inputs) - targets).square().sum() / 2)


def _net(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5, dtype=dtype), nn.Tanh(), nn.Linear(5, 2, dtype=dtype))


def _batches(sizes: Sequence[int] = SIZES, seed: int = 1, dtype: torch.dtype = torch.float64) -> list[Batch]:
    draw = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(size, 6, generator=draw, dtype=dtype), torch.randn(size, 2, generator=draw, dtype=dtype))
        for size in sizes
    ]


def _accumulator(model: nn.Module, num_items: int = sum(SIZES), **more: Any) -> Accumulator:
    optimizer = more.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=0.0)
    return Accumulator(model, optimizer, plan=BatchPlan(effective_batch_size=num_items, micro_batch_size=8), **more)


def _expected(model: nn.Module, batches: Sequence[Batch]) -> tuple[float, float]:
    """tr(Sigma) and |G|^2 from the gradient of each micro-batch, asked of autograd one by one."""

    def square(batch: Batch) -> float:
        gradients = torch.autograd.grad(_squares(model, batch) / len(batch[0]), list(model.parameters()))
        return float(sum(gradient.square().sum() for gradient in gradients))

    whole = (torch.cat([one for one, _ in batches]), torch.cat([one for _, one in batches]))
    return WindowNorms.of([len(x) for x, _ in batches], [square(one) for one in batches], square(whole)).parts()


def _parts(noise: NoiseScale) -> list[float]:
    found = noise.estimate()
    return [found.S, found.G2]


def test_window_gives_what_the_gradients_of_its_micro_batches_give() -> None:
    """Micro-batches of unequal sizes, on the way through the accumulator: to rounding."""
    model, batches = _net(), _batches()
    accumulator, noise = _accumulator(model), NoiseScale(model)
    accumulator.listeners.append(noise)
    accumulator.step(batches, _squares)
    assert _parts(noise) == pytest.approx(list(_expected(model, batches)), rel=1e-12)
    assert noise.estimate().num_windows == 1


def test_losses_that_are_means_give_the_same() -> None:
    """How the loss is written changes nothing."""
    model, batches = _net(), _batches()
    accumulator, noise = _accumulator(model, loss_is="mean"), NoiseScale(model)
    accumulator.listeners.append(noise)
    accumulator.step(batches, lambda model, batch: _squares(model, batch) / len(batch[0]))
    assert _parts(noise) == pytest.approx(list(_expected(model, batches)), rel=1e-12)


def test_factor_of_mixed_precision_is_divided_out() -> None:
    """A factor of 65,536 on every loss, and the gradients clipped: the same as without."""
    model, batches = _net(torch.float32), _batches(dtype=torch.float32)
    found = []
    choices: tuple[dict[str, Any], ...] = ({}, {"scaler": torch.amp.GradScaler("cpu"), "max_norm": 1e-3})
    for more in choices:
        accumulator, noise = _accumulator(model, **more), NoiseScale(model)
        accumulator.listeners.append(noise)
        accumulator.step(batches, _squares)
        found.append(_parts(noise))
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_gradients_in_bfloat16_are_summed_up_in_more() -> None:
    """Parameters of 16 bits: within their rounding."""
    model, batches = _net().to(torch.bfloat16), _batches(dtype=torch.bfloat16)
    accumulator, noise = _accumulator(model), NoiseScale(model)
    accumulator.listeners.append(noise)
    accumulator.step(batches, _squares)
    exact = _expected(model.double(), [(x.double(), y.double()) for x, y in batches])
    assert _parts(noise) == pytest.approx(list(exact), rel=0.05)


def test_window_that_is_skipped_counts_for_nothing() -> None:
    """A loss that is not finite leaves the averages as they were, and the next window counts again."""
    model = _net()
    accumulator, noise = _accumulator(model), NoiseScale(model)
    accumulator.listeners.append(noise)
    bad = _batches()
    bad[1][0][0, 0] = torch.nan
    for batches in (_batches(), bad, _batches()):
        accumulator.step(batches, _squares)
    assert noise.estimate().num_windows == 2
    assert _parts(noise) == pytest.approx(list(_expected(model, _batches())), rel=1e-12)


def test_window_that_was_left_counts_for_nothing() -> None:
    """Its first micro-batch is not added to those of the next window, and passes between windows are not seen."""
    model, batches = _net(), _batches()
    accumulator, noise = _accumulator(model), NoiseScale(model)
    accumulator.listeners.append(noise)
    window = next(accumulator.windows(_batches([8, 8], seed=2)))
    for batch in window:
        window.backward(_squares(model, batch))
        break
    window.close()
    for batch in batches:
        _squares(model, batch).backward()  # type: ignore[no-untyped-call]
    accumulator.step(batches, _squares)
    _squares(model, batches[0]).backward()  # type: ignore[no-untyped-call]
    assert noise.estimate().num_windows == 1
    assert _parts(noise) == pytest.approx(list(_expected(model, batches)), rel=1e-12)


def test_window_of_one_micro_batch_says_nothing() -> None:
    """It is left out, as a last window may be short."""
    model = _net()
    accumulator, noise = _accumulator(model, 8), NoiseScale(model)
    accumulator.listeners.append(noise)
    accumulator.step(_batches([8]), _squares)
    assert noise.estimate().num_windows == 0


def test_tied_sparse_and_frozen_parameters_are_seen_as_they_are() -> None:
    """A weight that is used twice has one gradient, a sparse one has its values, a frozen one has none."""
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 4, sparse=True, dtype=torch.float64)
            self.mix = nn.Linear(4, 4, dtype=torch.float64)
            self.still = nn.Parameter(torch.ones(4, dtype=torch.float64), requires_grad=False)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return torch.as_tensor(self.mix(self.mix(self.table(tokens) * self.still)))

    model = Tied()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    accumulator, noise = _accumulator(model, 16, optimizer=optimizer), NoiseScale(model)
    accumulator.listeners.append(noise)
    draw = torch.Generator().manual_seed(3)
    batches = [(torch.randint(9, (8, 3), generator=draw), torch.zeros(8, 3, 4)) for _ in range(2)]
    accumulator.step(batches, _squares)
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def square(batch: Batch) -> float:
        gradients = torch.autograd.grad(_squares(model, batch) / len(batch[0]), wanted)
        return float(sum(gradient.to_dense().square().sum() for gradient in gradients))

    whole = (torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
    expected = WindowNorms.of([8, 8], [square(one) for one in batches], square(whole)).parts()
    assert _parts(noise) == pytest.approx(list(expected), rel=1e-9)


def test_parameter_that_learns_later_is_seen_from_then_on() -> None:
    """Unfrozen between windows, as in fine-tuning."""
    model, batches = _net(), _batches()
    model[0].requires_grad_(requires_grad=False)
    noise = NoiseScale(model)
    model[0].requires_grad_(requires_grad=True)
    accumulator = _accumulator(model)
    accumulator.listeners.append(noise)
    accumulator.step(batches, _squares)
    assert _parts(noise) == pytest.approx(list(_expected(model, batches)), rel=1e-12)


def test_optimiser_of_some_parameters_must_be_told_of() -> None:
    """What it does not hold is not in the gradient; with it, only its own are watched."""
    model, batches = _net(), _batches()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.0)
    accumulator = _accumulator(model, optimizer=optimizer)
    accumulator.listeners.append(NoiseScale(model))
    with pytest.raises(ConfigError, match="the optimiser has others than the model; give NoiseScale optimizer="):
        accumulator.step(batches, _squares)
    accumulator, noise = _accumulator(model, optimizer=optimizer), NoiseScale(model, optimizer=optimizer)
    accumulator.listeners.append(noise)
    accumulator.step(batches, _squares)
    model[0].requires_grad_(requires_grad=False)
    only_last = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def square(batch: Batch) -> float:
        gradients = torch.autograd.grad(_squares(model, batch) / len(batch[0]), only_last)
        return float(sum(gradient.square().sum() for gradient in gradients))

    whole = (torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
    expected = WindowNorms.of(SIZES, [square(one) for one in batches], square(whole)).parts()
    assert _parts(noise) == pytest.approx(list(expected), rel=1e-12)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_that_come_in_parts_are_refused(*, reentrant: bool) -> None:
    """Reentrant checkpoints of a layer that is used twice; other checkpoints are fine."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 6, dtype=torch.float64)
            self.last = nn.Linear(6, 2, dtype=torch.float64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.requires_grad_()
            for _ in range(2):
                x = checkpoint(self.layer, x, use_reentrant=reentrant)
            return torch.as_tensor(self.last(x))

    model, batches = Twice(), _batches()
    accumulator, noise = _accumulator(model), NoiseScale(model)
    accumulator.listeners.append(noise)
    if reentrant:
        with pytest.raises(ConfigError, match=r"'layer.weight' was given its gradient in parts within micro-batch 0"):
            accumulator.step(batches, _squares)
    else:
        accumulator.step(batches, _squares)
        assert _parts(noise) == pytest.approx(list(_expected(model, batches)), rel=1e-9)


def test_micro_batch_without_a_gradient_is_refused() -> None:
    """As where parameters are sharded, and given theirs past the hooks."""
    noise = NoiseScale(_net())
    noise.before_window(_start())
    with pytest.raises(ConfigError, match="no parameter was seen to be given a gradient by micro-batch 0"):
        noise.after_micro_batch(0, 8)


def test_nothing_is_left_on_the_model_once_closed() -> None:
    """Its hooks are gone, and training goes on."""
    model = _net()
    noise = NoiseScale(model)
    noise.before_window(_start())
    noise.close()
    assert not any(parameter._backward_hooks for parameter in model.parameters())


def _start() -> WindowStart:
    return WindowStart(micro_batches=(None,) * 2, sizes=(8, 8), num_valid=16, num_ranks=1, scale=1 / 16)


def test_it_works_by_hand_as_well() -> None:
    """Without an accumulator: say what each micro-batch has, and what came of the window."""
    model, batches = _net(), _batches()
    noise = NoiseScale(model)
    num_valid = sum(SIZES)
    noise.before_window(
        WindowStart(micro_batches=tuple(batches), sizes=SIZES, num_valid=num_valid, num_ranks=1, scale=1 / num_valid)
    )
    for index, batch in enumerate(batches):
        (_squares(model, batch) / num_valid).backward()  # type: ignore[no-untyped-call]
        noise.after_micro_batch(index, len(batch[0]))
    norm = float(torch.nn.utils.get_total_norm([one.grad for one in model.parameters() if one.grad is not None]))
    noise.after_window(
        WindowResult(loss=0.0, num_valid=num_valid, grad_norm=norm, skipped=False, num_micro_batches=3, overhead_s=0.0)
    )
    assert _parts(noise) == pytest.approx(list(_expected(model, batches)), rel=1e-12)


def _regression(noise_std: float, offset: torch.Tensor, curvature: torch.Tensor) -> Callable[[int], Batch]:
    """Draw inputs with the covariance diag(curvature), and targets that lie `noise_std` about a line."""
    draw = torch.Generator().manual_seed(7)

    def batch(size: int) -> Batch:
        inputs = torch.randn(size, len(offset), generator=draw, dtype=torch.float64) * curvature.sqrt()
        noise = noise_std * torch.randn(size, 1, generator=draw, dtype=torch.float64)
        return inputs, noise - inputs @ offset[:, None]

    return batch


@pytest.mark.parametrize("noise_std", [0.0, 3.0])
def test_gaussian_linear_regression_has_the_noise_scale_of_its_closed_form(noise_std: float) -> None:
    """`B = 1 + (d'Hd + s^2) tr H / |Hd|^2` at the distance d from the optimum, with noise s in the targets."""
    curvature = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25, 0.1], dtype=torch.float64)
    offset = torch.tensor([0.5, -1.0, 1.0, 2.0, -1.0, 3.0], dtype=torch.float64)
    batch = _regression(noise_std, offset, curvature)
    model = nn.Linear(6, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    accumulator, noise = _accumulator(model, 64), NoiseScale(model, decay=1.0)
    accumulator.listeners.append(noise)
    for _ in range(200):
        accumulator.step([batch(8) for _ in range(8)], _squares)
    pull = float((offset * curvature * offset).sum()) + noise_std**2
    closed = 1 + pull * float(curvature.sum()) / float((curvature * offset).square().sum())
    found = noise.estimate()
    assert found.noise_scale == pytest.approx(closed, rel=0.08)
    assert found.low <= closed <= found.high
    assert (found.high - found.low) / closed < 0.3


def test_checkpoint_keeps_what_was_averaged() -> None:
    """A restart goes on with the same estimate."""
    model = _net()
    accumulator, noise = _accumulator(model), NoiseScale(model)
    accumulator.listeners.append(noise)
    for seed in range(4):
        accumulator.step(_batches(seed=seed), _squares)
    again = NoiseScale(model)
    again.load_state_dict(noise.state_dict())
    assert again.estimate() == noise.estimate()
