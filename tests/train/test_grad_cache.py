"""GradCache: the gradient of a loss over a whole window is that of one batch, whatever the micro-batches."""

from __future__ import annotations

import copy
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from carpool.errors import ConfigError, ModelError
from carpool.train.grad_cache import GradCache
from tests.train.pairs import Pair, contrast, encoders_of, gradients_of, pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXACT = 1e-12
NUM_ITEMS = 12


def of_one_batch(
    encoders: tuple[nn.Module, nn.Module],
    micro_batches: Sequence[Pair],
    *,
    loss_of: Callable[..., torch.Tensor] = contrast,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss and the gradients of a window as one batch in plain PyTorch.

    The passes are made one micro-batch at a time, so that dropout draws as it does there; all graphs are kept.
    """
    copies = copy.deepcopy(encoders)
    parts = [tuple(encoder(one) for encoder, one in zip(copies, batch, strict=True)) for batch in micro_batches]
    loss = loss_of(*(torch.cat(each) for each in zip(*parts, strict=True)))
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), gradients_of(*copies)


def largest(difference: torch.Tensor) -> float:
    """Give the largest size of any number."""
    return float(difference.abs().max())


@settings(max_examples=15)
@given(
    sizes=st.lists(st.integers(min_value=0, max_value=4), min_size=1, max_size=5).filter(lambda sizes: sum(sizes) > 1)
)
def test_any_cut_of_a_window_gives_the_gradient_of_the_whole(sizes: list[int]) -> None:
    """However a window is cut, empty micro-batches included, its loss and gradient are those of one batch."""
    encoders = encoders_of()
    whole = pairs_of([sum(sizes)])
    loss, gradients = of_one_batch(encoders, whole)
    cached = GradCache(encoders, contrast).backward(pairs_of(sizes))
    assert largest(cached - loss) < EXACT
    assert largest(gradients_of(*encoders) - gradients) < EXACT


def test_accumulated_losses_of_micro_batches_are_another_loss() -> None:
    """What the gradient is exact against: with fewer negatives, it is far from that of the batch."""
    encoders = encoders_of()
    _, gradients = of_one_batch(encoders, pairs_of([NUM_ITEMS]))
    for queries, texts in pairs_of([4, 4, 4]):
        (contrast(encoders[0](queries), encoders[1](texts)) / 3).backward()  # type: ignore[no-untyped-call]
    assert largest(gradients_of(*encoders) - gradients) > 0.01


def noisy_contrast(queries: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """Tell queries and texts apart, drawing random numbers for it."""
    return contrast(queries + 0.1 * torch.randn_like(queries), texts)


def test_dropout_draws_the_same_in_both_passes() -> None:
    """With dropout, the gradient is that of the passes that the loss saw; what is drawn later is as ever."""
    encoders = encoders_of(dropout=0.3)
    micro_batches = pairs_of([5, 4, 3])
    torch.manual_seed(7)
    loss, gradients = of_one_batch(encoders, micro_batches, loss_of=noisy_contrast)
    next_number = torch.rand(1)
    torch.manual_seed(7)
    cached = GradCache(encoders, noisy_contrast).backward(micro_batches)
    assert torch.equal(torch.rand(1), next_number)
    assert largest(cached - loss) < EXACT
    assert largest(gradients_of(*encoders) - gradients) < EXACT


def test_an_encoder_may_embed_both_inputs() -> None:
    """A shared encoder, as where a text is embedded twice under dropout, gets the gradient through both."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.2)).double()
    micro_batches = [(queries, queries) for queries, _ in pairs_of([4, 3])]
    torch.manual_seed(3)
    _, gradients = of_one_batch((encoder, encoder), micro_batches)
    torch.manual_seed(3)
    GradCache([encoder, encoder], contrast).backward(micro_batches)
    assert largest(gradients_of(encoder) - gradients) < EXACT


def test_parameters_of_the_loss_and_gradients_that_are_there_are_added_to() -> None:
    """A temperature learns too, and a second window adds to the gradients of the first."""
    encoders = encoders_of()
    temperature = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def loss(queries: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return cross_entropy(queries @ texts.T * temperature, torch.arange(len(queries)))

    cache = GradCache(encoders, loss)
    cache.backward(pairs_of([3, 3]))
    once = torch.cat([gradients_of(*encoders), temperature.grad.flatten()])  # type: ignore[union-attr]
    cache.backward(pairs_of([2, 4]))
    twice = torch.cat([gradients_of(*encoders), temperature.grad.flatten()])  # type: ignore[union-attr]
    assert largest(once[-1:]) > 0
    assert largest(twice - 2 * once) < EXACT


def test_mixed_precision_scales_the_gradients() -> None:
    """With a scaler, all gradients have its factor, and the loss that is returned has not."""
    encoders = encoders_of()
    loss, gradients = of_one_batch(encoders, pairs_of([6]))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    cached = GradCache(encoders, contrast, scaler=scaler).backward(pairs_of([2, 4]))
    assert largest(cached - loss) < EXACT
    assert largest(gradients_of(*encoders) - 8 * gradients) < EXACT


def test_autocast_around_both_passes_loses_no_gradient() -> None:
    """What autocast keeps of the weights from the pass without gradients is not taken for the pass with them."""
    torch.manual_seed(0)
    encoder = nn.Linear(5, 4)
    micro_batches = [(queries.float(),) for queries, _ in pairs_of([3, 3])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        GradCache([encoder], lambda embeddings: embeddings.float().square().sum()).backward(micro_batches)
    queries = torch.cat([batch for (batch,) in micro_batches])
    expected = 2 * encoder(queries).T @ queries
    assert encoder.weight.grad is not None
    assert largest(encoder.weight.grad - expected.detach()) < 0.05 * largest(expected.detach())


def test_buffers_change_as_in_one_pass() -> None:
    """What a layer keeps of its passes, such as running statistics, is not updated twice."""
    encoder = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)).double()
    plain = copy.deepcopy(encoder)
    micro_batches = [(queries,) for queries, _ in pairs_of([4, 3])]
    with pytest.warns(UserWarning, match=r"hold 1 BatchNorm layers, such as 1, .* Use LayerNorm, or freeze them"):
        cache = GradCache([encoder], lambda embeddings: embeddings.square().sum())
    cache.backward(micro_batches)
    for (queries,) in micro_batches:
        plain(queries)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(encoder.buffers(), plain.buffers(), strict=True))


def test_a_loss_may_work_in_place_and_micro_batches_may_come_from_an_iterator() -> None:
    """Embeddings are the loss's own to change, as they would be in one batch."""
    encoders = encoders_of()
    GradCache(encoders, lambda queries, texts: contrast(queries.mul_(2), texts.add_(1))).backward(
        iter(pairs_of([3, 4]))
    )
    copies, (batch,) = encoders_of(), pairs_of([7])
    contrast(copies[0](batch[0]) * 2, copies[1](batch[1]) + 1).backward()  # type: ignore[no-untyped-call]
    assert largest(gradients_of(*encoders) - gradients_of(*copies)) < EXACT


def test_an_encoder_may_be_frozen_and_inputs_may_have_names() -> None:
    """An encoder that learns nothing gets no gradient; mappings are passed by name."""

    class Named(nn.Module):
        """Takes its input by name."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(5, 4).double()

        def forward(self, *, queries: torch.Tensor) -> torch.Tensor:
            """Embed."""
            result: torch.Tensor = self.inner(queries)
            return result

    learning, frozen = Named(), encoders_of()[1].requires_grad_(requires_grad=False)
    micro_batches = [({"queries": queries}, texts) for queries, texts in pairs_of([2, 3])]
    GradCache([learning, frozen], contrast).backward(micro_batches)
    assert learning.inner.weight.grad is not None
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_other_random_numbers_than_torchs_are_found_out() -> None:
    """An encoder that draws from elsewhere embeds differently in the second pass: its gradient would be wrong."""

    class Jittery(nn.Linear):
        """Draws from Python's own random numbers."""

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            """Embed."""
            return super().forward(values) * random.choice([0.5, 1.0, 2.0])

    random.seed(2)
    cache = GradCache([Jittery(5, 4).double()], lambda embeddings: embeddings.square().sum())
    with pytest.raises(ModelError, match=r"are \d.*% away from those of the first, so the gradient is wrong: draw"):
        cache.backward([(queries,) for queries, _ in pairs_of([2] * 6)])


@pytest.mark.parametrize(
    ("micro_batches", "message"),
    [
        ([], "the window holds no micro-batch: give at least one on each rank"),
        (torch.zeros(4, 2, 5), "a micro-batch is no tuple or list of inputs, and there are 2 encoders"),
        ([(torch.zeros(2, 5),)], "a micro-batch has 1 inputs, and there are 2 encoders: give an input for each"),
    ],
)
def test_windows_that_cannot_be_are_refused(micro_batches: list[tuple[torch.Tensor, ...]], message: str) -> None:
    """A window without micro-batches, or with other inputs than encoders, is refused before anything runs."""
    with pytest.raises(ConfigError, match=message):
        GradCache(encoders_of(), contrast).backward(micro_batches)


def test_losses_and_embeddings_that_cannot_be_are_refused() -> None:
    """What an encoder or the loss returns is checked, and the message says what it was."""
    encoders, pairs = encoders_of(), pairs_of([2, 2])
    number: Any = 1.0
    several: Any = (number,)
    with pytest.raises(ConfigError, match=r"the loss has shape \(4,\); it must be a tensor of one number"):
        GradCache(encoders, lambda queries, texts: (queries * texts).sum(1)).backward(pairs)
    with pytest.raises(ConfigError, match="the loss has type float; it must be"):
        GradCache(encoders, lambda queries, texts: number).backward(pairs)
    with pytest.raises(ConfigError, match="the loss does not depend on the embeddings"):
        GradCache(encoders, lambda queries, texts: queries.detach().sum()).backward(pairs)
    with pytest.raises(ConfigError, match=r"an encoder returned tuple, not floating-point embeddings.*give encode="):
        GradCache(encoders, contrast, encode=lambda encoder, inputs: several).backward(pairs)
    with pytest.raises(ConfigError, match=r"returned torch.int64 of shape \(2,\), not floating-point"):
        GradCache(encoders, contrast, encode=lambda encoder, inputs: torch.arange(2)).backward(pairs)
    with pytest.raises(ConfigError, match="there is no encoder"):
        GradCache([], contrast)
    with pytest.raises(ConfigError, match="encoders is one Sequential: give a list"):
        GradCache(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 4)), contrast)  # type: ignore[arg-type]
