"""What is set on a real optimiser and its schedule, and what is refused."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from carpool.errors import ConfigError
from carpool.train.scaling.apply import scale_hyperparameters
from carpool.train.scaling.groups import MARK

if TYPE_CHECKING:
    from collections.abc import Callable


def _weights(num: int = 2) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3)) for _ in range(num)]


def _sgd() -> torch.optim.SGD:
    return torch.optim.SGD(_weights(), lr=0.1, momentum=0.9, weight_decay=1e-4)


def _adam() -> torch.optim.Adam:
    return torch.optim.Adam(_weights(), lr=1e-3)


def _group(optimizer: torch.optim.Optimizer, index: int = 0) -> dict[str, Any]:
    return {name: value for name, value in optimizer.param_groups[index].items() if name != "params"}


class Lamb(torch.optim.AdamW):
    """Named as the optimisers that torch has not."""


class Unheard(torch.optim.Optimizer):
    """An optimiser that no rule was made for."""

    def __init__(self, **defaults: Any) -> None:
        super().__init__(_weights(), defaults)


def test_sgd_is_scaled_linearly_and_nothing_else_of_it() -> None:
    """Momentum and the L2 penalty stay (Goyal 2017)."""
    optimizer = _sgd()
    report = scale_hyperparameters(optimizer, 8)
    group = _group(optimizer)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (pytest.approx(0.8), 0.9, 1e-4)
    assert [change.name for change in report.changes] == ["lr"]
    assert report.rule == "linear"


def test_adam_is_scaled_by_the_square_root() -> None:
    """Rate, both decays and eps; an L2 penalty is part of the loss, and stays."""
    optimizer = torch.optim.Adam(_weights(), lr=1e-3, weight_decay=0.01)
    scale_hyperparameters(optimizer, 4)
    group = _group(optimizer)
    assert group["lr"] == pytest.approx(2e-3)
    assert group["betas"] == (pytest.approx(0.6), pytest.approx(0.996))
    assert (group["eps"], group["weight_decay"]) == (pytest.approx(5e-9), 0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.optim.AdamW(_weights(), lr=1e-3, weight_decay=0.1),
        lambda: torch.optim.Adam(_weights(), lr=1e-3, weight_decay=0.1, decoupled_weight_decay=True),
    ],
)
def test_a_decoupled_weight_decay_keeps_its_time_scale(make: Callable[[], torch.optim.Optimizer]) -> None:
    """4 times the batch, twice the rate, twice the decay: B / (lr x weight decay x D) is what it was."""
    optimizer = make()
    scale_hyperparameters(optimizer, 4)
    group = _group(optimizer)
    assert group["weight_decay"] == pytest.approx(0.2)
    assert 4 / (group["lr"] * group["weight_decay"]) == pytest.approx(1 / (1e-3 * 0.1))


def test_rmsprop_has_its_alpha_scaled() -> None:
    """RMSprop has the decay of Adam's second average under another name."""
    optimizer = torch.optim.RMSprop(_weights(), lr=1e-2, alpha=0.99)
    scale_hyperparameters(optimizer, 9)
    group = _group(optimizer)
    assert (group["lr"], group["alpha"]) == (pytest.approx(3e-2), pytest.approx(0.91))
    assert group["eps"] == pytest.approx(1e-8 / 3)


def test_lamb_is_scaled_by_legw() -> None:
    """Known by its name; its decays stay, and its warm-up has as many steps as before."""
    report = scale_hyperparameters(Lamb(_weights(), lr=1e-3, weight_decay=0.0), 4, warm_up_steps=100)
    assert report.rule == "legw"
    assert [change.name for change in report.changes] == ["lr"]
    assert report.warm_up_steps == 100


def test_each_parameter_group_is_scaled() -> None:
    """Groups differ in their numbers, and keep the ratios between them."""
    first, second = _weights()
    optimizer = torch.optim.AdamW(
        [{"params": [first], "lr": 1e-3}, {"params": [second], "lr": 1e-4, "weight_decay": 0.0}], weight_decay=0.1
    )
    report = scale_hyperparameters(optimizer, 4)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(2e-3), pytest.approx(2e-4)]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [pytest.approx(0.2), 0.0]
    assert report.after("lr", 1) == pytest.approx(2e-4)
    assert report.after("weight_decay", 1) is None


@pytest.mark.parametrize("rule", ["auto", "linear", "square_root", "legw", "weight_decay", "none"])
@pytest.mark.parametrize("make", [_sgd, _adam])
def test_a_factor_of_one_changes_nothing(rule: str, make: Callable[[], torch.optim.Optimizer]) -> None:
    """And leaves no mark."""
    optimizer = make()
    before = _group(optimizer)
    report = scale_hyperparameters(optimizer, 1, rule=rule)
    assert _group(optimizer) == before
    assert (report.changes, report.notes) == ((), ())


def test_none_changes_nothing() -> None:
    """Not even an average of the weights."""
    optimizer = torch.optim.AdamW(_weights())
    before = _group(optimizer)
    assert scale_hyperparameters(optimizer, 16, rule="none", ema=0.999).changes == ()
    assert _group(optimizer) == before


def test_weight_decay_alone_leaves_the_rate() -> None:
    """Linear in the batch, as Bergsma 2025 find it at a fixed rate."""
    optimizer = torch.optim.AdamW(_weights(), lr=1e-3, weight_decay=0.1)
    report = scale_hyperparameters(optimizer, 8, rule="weight_decay")
    assert [change.name for change in report.changes] == ["weight_decay"]
    assert report.after("weight_decay") == pytest.approx(0.8)


def test_a_report_alone_sets_nothing() -> None:
    """And may be asked for any number of factors, whatever schedule there is."""
    optimizer = _adam()
    lr_scheduler.ExponentialLR(optimizer, 0.9)
    before = _group(optimizer)
    rates = [scale_hyperparameters(optimizer, factor, apply=False).after("lr") for factor in (1, 4, 9)]
    assert rates == [None, pytest.approx(2e-3), pytest.approx(3e-3)]
    assert _group(optimizer) == before


def test_scaling_twice_by_mistake_is_refused_with_both_factors() -> None:
    """Also after a checkpoint, which holds the mark."""
    optimizer = _sgd()
    scale_hyperparameters(optimizer, 4)
    again = _sgd()
    again.load_state_dict(optimizer.state_dict())
    for one in (optimizer, again):
        with pytest.raises(
            ConfigError, match=r"already scaled by 4, and would be by 2 once more, 8 in all.*again=True"
        ):
            scale_hyperparameters(one, 2)
        assert one.param_groups[0]["lr"] == pytest.approx(0.4)


def test_scaling_again_on_purpose_goes_on_from_there() -> None:
    """As for a batch that grows in the course of training."""
    optimizer = _sgd()
    scale_hyperparameters(optimizer, 4)
    scale_hyperparameters(optimizer, 2, again=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.8)
    assert optimizer.param_groups[0][MARK] == 8


def test_what_is_refused_changes_no_group() -> None:
    """The second group's decay is used up: the first keeps its numbers."""
    first, second = _weights()
    groups: list[dict[str, Any]] = [{"params": [first], "betas": (0.95, 0.999)}, {"params": [second]}]
    optimizer = torch.optim.Adam(groups, lr=1e-3)
    before = [_group(optimizer, index) for index in (0, 1)]
    with pytest.raises(ConfigError, match=r"factor below 10"):
        scale_hyperparameters(optimizer, 12)
    assert [_group(optimizer, index) for index in (0, 1)] == before


def test_the_power_form_says_where_its_ground_ends() -> None:
    """At 32 times the batch a beta1 of 0.9 spans less than a step."""
    optimizer = _adam()
    report = scale_hyperparameters(optimizer, 32, beta_form="power")
    assert _group(optimizer)["betas"] == (pytest.approx(0.9**32), pytest.approx(0.999**32))
    assert any(note.startswith("32 x (1 - 0.9) is 3.2, past 1") for note in report.notes)


def test_tensors_stay_the_same_tensors() -> None:
    """A captured graph reads the rate from where it was."""
    rate = torch.tensor(1e-3, dtype=torch.float64)
    optimizer = torch.optim.Adam(_weights(), lr=rate)
    held = optimizer.param_groups[0]["lr"]
    scale_hyperparameters(optimizer, 4)
    assert optimizer.param_groups[0]["lr"] is held
    assert float(held) == pytest.approx(2e-3)


def test_what_a_framework_puts_around_is_looked_through() -> None:
    """Optimiser and schedule, as Accelerate and Lightning wrap them."""
    optimizer = _sgd()
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.9)
    wrapped: Any = SimpleNamespace(optimizer=optimizer, param_groups=optimizer.param_groups)
    report = scale_hyperparameters(wrapped, 4, scheduler=SimpleNamespace(scheduler=scheduler))
    assert report.rule == "linear"
    assert scheduler.base_lrs == [pytest.approx(0.4)]


def test_an_average_of_the_weights_is_set() -> None:
    """On the object that holds its decay."""
    ema = SimpleNamespace(decay=0.999)
    report = scale_hyperparameters(_sgd(), 4, ema=ema)
    assert ema.decay == pytest.approx(0.999**4)
    assert report.after("ema_decay", None) == pytest.approx(0.999**4)


def test_a_decay_given_as_a_number_is_reported() -> None:
    """For an average that keeps its decay to itself, such as torch's."""
    assert scale_hyperparameters(_sgd(), 4, ema=0.99).after("ema_decay", None) == pytest.approx(0.99**4)


@pytest.mark.parametrize("ema", [object(), "0.999", True, SimpleNamespace(decay=None)])
def test_an_average_without_a_decay_is_refused(ema: object) -> None:
    """Before anything is set."""
    optimizer = _sgd()
    with pytest.raises(ConfigError, match="has no number named decay"):
        scale_hyperparameters(optimizer, 4, ema=ema)
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_an_optimiser_that_no_rule_is_known_for_asks_for_one() -> None:
    """Adagrad, say: nobody is guessed for."""
    with pytest.raises(
        ConfigError, match=r"no rule is known for Adagrad, but for SGD, Adam, .*: give rule=, one of 'linear'"
    ):
        scale_hyperparameters(torch.optim.Adagrad(_weights()), 4)


def test_an_unknown_optimiser_takes_a_rule_for_its_rate_only() -> None:
    """Its other numbers mean what they mean to it."""
    optimizer = Unheard(lr=0.1, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1)
    report = scale_hyperparameters(optimizer, 4, rule="square_root")
    assert [change.name for change in report.changes] == ["lr"]
    assert report.after("lr") == pytest.approx(0.2)
    assert "Hoffer" in report.changes[0].source


@pytest.mark.parametrize("make", [_sgd, _adam])
def test_an_unknown_form_is_refused(make: Callable[[], torch.optim.Optimizer]) -> None:
    """Also where there is no decay to use it on."""
    with pytest.raises(ConfigError, match="beta_form is 'cubic'; it must be one of linear, power"):
        scale_hyperparameters(make(), 4, beta_form="cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [None, ["linear"], 1, ""])
def test_what_names_no_rule_is_refused(rule: Any) -> None:
    """Whatever it is."""
    with pytest.raises(ConfigError, match="it must be 'auto' or one of"):
        scale_hyperparameters(_sgd(), 4, rule=rule)


def test_an_unknown_rule_is_refused_with_those_there_are() -> None:
    """By their names."""
    with pytest.raises(
        ConfigError, match="rule is 'cubic'; it must be 'auto' or one of 'linear', 'square_root', 'legw'"
    ):
        scale_hyperparameters(_sgd(), 4, rule="cubic")


@pytest.mark.parametrize("optimizer", [None, SimpleNamespace(param_groups=[]), nn.Linear(1, 1)])
def test_what_is_no_optimiser_is_refused(optimizer: Any) -> None:
    """Such as the model, given in its place."""
    with pytest.raises(ConfigError, match="has no parameter groups: give a torch optimiser"):
        scale_hyperparameters(optimizer, 4)


def test_an_optimiser_that_finds_its_own_rate_is_refused() -> None:
    """As Adafactor with a relative step."""
    with pytest.raises(ConfigError, match="parameter group 0 of Unheard has no learning rate to scale"):
        scale_hyperparameters(Unheard(lr=None), 4, rule="linear")


def test_training_that_has_begun_is_told_of_its_averages() -> None:
    """Adam's second average is of the old batch's noise for a while."""
    optimizer = _adam()
    for weight in optimizer.param_groups[0]["params"]:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    assert any("training has begun" in note for note in scale_hyperparameters(optimizer, 4).notes)


def test_a_report_can_be_written_as_json() -> None:
    """With the numbers, the words and the warm-up."""
    report = scale_hyperparameters(torch.optim.AdamW(_weights()), 4, ema=0.999, warm_up_steps=100, steps_per_epoch=10)
    written = json.loads(json.dumps(report.as_dict()))
    assert written["factor"] == 4
    assert {change["name"] for change in written["changes"]} == {
        "lr",
        "beta1",
        "beta2",
        "eps",
        "weight_decay",
        "ema_decay",
    }
    assert written["warm_up_steps"] == 25
    assert written["text"] == report.text


def test_a_tensor_that_groups_share_is_scaled_once() -> None:
    """Each group would else multiply it again."""
    rate = torch.tensor(0.1, dtype=torch.float64)
    optimizer = torch.optim.SGD([{"params": _weights(1)} for _ in range(2)], lr=rate)
    report = scale_hyperparameters(optimizer, 4)
    assert rate.item() == pytest.approx(0.4)
    assert all(group["lr"] is rate for group in optimizer.param_groups)
    assert [change.after for change in report.changes] == pytest.approx([0.4, 0.4])
