"""What is found wrong with a setup before anything is measured with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import nn

from carpool.errors import ConfigError, ModelError, OutOfMemory
from carpool.train.planning.check import beside_itself, check_setup
from tests.train.planning.made_up import setup

if TYPE_CHECKING:
    from collections.abc import Iterator

PARAMETER = nn.Parameter(torch.zeros(1))


def mean_loss(model: nn.Module, batch: Any) -> torch.Tensor:
    """What must not be given."""
    mean: torch.Tensor = (model(batch[0])[:, 0] - batch[1]).square().mean()
    return mean


def raising(*_: object) -> Any:
    """Fail in code of the user's own."""
    message = "no such layer"
    raise KeyError(message)


def test_a_sound_setup_is_not_doubted_and_left_as_it_was() -> None:
    """Weights, gradients and modes."""
    made = setup()
    made.model.train()
    before = [parameter.detach().clone() for parameter in made.model.parameters()]
    assert check_setup(made) == ()
    assert made.model.training
    assert all(torch.equal(old, new) for old, new in zip(before, made.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in made.model.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss": mean_loss}, "when every item is there twice: it is a mean"),
        ({"loss": lambda model, batch: mean_loss(model, batch).item()}, "loss returned a float, not a tensor"),
        ({"loss": lambda model, batch: model(batch[0])}, r"loss returned a tensor of shape \(4, 1\), not a scalar"),
        ({"loss": lambda model, batch: mean_loss(model, batch).detach()}, "a tensor that can't be differentiated"),
        ({"loss": lambda model, batch: mean_loss(model, batch) * torch.nan}, "loss is nan on the first micro-batch"),
        ({"loader": lambda size: []}, r"loader\(4\) gives no micro-batch: there is nothing to train on"),
        ({"loader": lambda size: None}, r"loader\(4\) returned a NoneType, which can't be iterated over"),
        ({"num_items": 0}, "num_items of the setup is 0; it must be at least 1"),
        ({"base_batch_size": "8"}, "base_batch_size of the setup is '8'; it must be at least 1"),
        ({"optimizer": None}, "optimizer of the setup is a NoneType; it must be a torch.optim.Optimizer"),
        ({"loader": []}, "loader of the setup is a list; it must be a function"),
        ({"model": nn.Linear(1, 1, device="meta")}, "parameters on the device meta, which hold no numbers"),
        ({"optimizer": torch.optim.LBFGS([PARAMETER])}, "LBFGS computes the loss several times"),
        ({"model": nn.Flatten()}, "the Flatten has no parameter that is trained"),
        ({"count": lambda batch: 0}, "first micro-batch has no valid item"),
        ({"count": lambda batch: 0.5}, "count returned 0.5 for a micro-batch; it must be a whole number"),
        (
            {"optimizer": torch.optim.SGD([PARAMETER], lr=0.1)},
            "none of the 1 parameter of the SGD is one of the model's",
        ),
        ({"loader": lambda size: iter([3.0])}, "a micro-batch of float does not say how many items it has"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(changes: dict[str, Any], said: str) -> None:
    """With what was found, and what to do."""
    with pytest.raises(ConfigError, match=said):
        check_setup(setup(**changes))


@pytest.mark.parametrize("part", ["loss", "loader", "count"])
def test_what_a_part_raises_is_told_with_its_line(part: str) -> None:
    """It is the user's own code."""
    with pytest.raises(
        ModelError, match=rf"{part}.* of the setup raised KeyError: 'no such layer' \(.*line \d+: raise"
    ):
        check_setup(setup(**dict[str, Any]({part: raising})))


def test_a_loss_of_zero_is_doubted() -> None:
    """Twice nothing is nothing."""
    (doubt,) = check_setup(setup(loss=lambda model, batch: 0.0 * model(batch[0]).sum()))
    assert doubt.startswith("The loss is 0 on the first micro-batch")


def test_a_part_that_runs_out_of_memory_says_so() -> None:
    """That is another matter than a fault."""

    def hungry(model: nn.Module, batch: Any) -> torch.Tensor:
        message = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."
        raise RuntimeError(message)

    with pytest.raises(OutOfMemory, match="loss of the setup ran out of memory"):
        check_setup(setup(loss=hungry))


def test_a_loss_of_pairs_of_items_is_doubted() -> None:
    """In-batch negatives: twice the items are more than twice the loss."""

    def contrastive(model: nn.Module, batch: Any) -> torch.Tensor:
        out: torch.Tensor = model(batch[0])
        return (out - out.T).square().sum() + 1.0

    (doubt,) = check_setup(setup(loss=contrastive))
    assert "items change each other's losses" in doubt


def test_a_batch_of_a_kind_of_its_own_is_trained_with_untried() -> None:
    """Nothing in it can be put beside itself."""

    class Own:
        def __init__(self, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
            self.pair = pair

    plain = setup()

    def loader(size: int) -> Iterator[Own]:
        return (Own(pair) for pair in plain.loader(size))

    own = setup(
        loader=loader, count=lambda batch: len(batch.pair[0]), loss=lambda model, batch: plain.loss(model, batch.pair)
    )
    (doubt,) = check_setup(own)
    assert "could not be tried: micro-batches are of a kind of their own" in doubt


class Pair(NamedTuple):
    """As loaders give them."""

    inputs: torch.Tensor
    wanted: torch.Tensor


def test_items_are_doubled_wherever_they_are() -> None:
    """In mappings, tuples and lists; what is not an item stays."""
    pair = Pair(torch.ones(3, 2), torch.ones(3))
    doubled = beside_itself({"pair": pair, "scale": torch.ones(2), "name": "x"}, 3)
    assert isinstance(doubled["pair"], Pair)
    assert doubled["pair"].inputs.shape == (6, 2)
    assert doubled["scale"].shape == (2,)
    assert doubled["name"] == "x"
    assert beside_itself([torch.ones(2)], 3) is None


class Numbered(dict[str, Any]):
    """A mapping that is made otherwise than of a mapping."""

    def __init__(self, _number: int, /) -> None:
        super().__init__()


def test_a_batch_that_cannot_be_made_again_is_only_doubted() -> None:
    """It is the user's own kind of thing, and trains as well as any."""

    def load(size: int) -> Iterator[Numbered]:
        batch = Numbered(1)
        batch["x"], batch["y"] = torch.ones(size, 3), torch.ones(size)
        yield batch

    def loss(model: nn.Module, batch: Any) -> torch.Tensor:
        total: torch.Tensor = (model(batch["x"])[:, 0] - batch["y"]).square().sum()
        return total

    model = nn.Linear(3, 1)
    made = setup(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), loader=load, loss=loss)
    (doubt,) = check_setup(made)
    assert "could not be tried" in doubt
