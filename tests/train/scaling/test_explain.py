"""What a report says, word for word."""

from __future__ import annotations

import torch
from torch import nn

from carpool.train.scaling.apply import scale_hyperparameters


def _adamw(num_groups: int = 1) -> torch.optim.AdamW:
    groups = [
        {"params": [nn.Parameter(torch.ones(2))], "weight_decay": 0.1 / (1 + index)} for index in range(num_groups)
    ]
    return torch.optim.AdamW(groups, lr=1e-3)


def test_a_report_says_what_changes_and_why_by_whom_and_how_far_it_holds() -> None:
    """A hyper-parameter a line, with its source below."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    report = scale_hyperparameters(optimizer, 32, steps_per_epoch=156)
    assert report.text == (
        "32 times the effective batch, rule 'linear':\n"
        "  lr: 0.1 -> 3.2, times 32, so that as many items move the weights as far as before\n"
        "      Goyal et al. 2017, arXiv:1706.02677; holds for SGD whose batch stays well below the noise scale, after "
        "a warm-up; tried up to 8,192 on ImageNet\n"
        "  warm-up: 5 epochs = 780 steps in a straight line from 0.03125 of the learning rate, since the weights "
        "change fast at first, and the large rate does not hold then (Goyal et al. 2017, arXiv:1706.02677)\n"
        "  note: divide by 32 what is counted in steps: the training, a schedule's turns, the time between two "
        "evaluations\n"
        "  note: beyond the noise scale the linear rate is too high: AdaScale takes as much of it as the gradients "
        "allow"
    )


def test_groups_that_change_alike_stand_on_one_line() -> None:
    """And those that differ say which they are."""
    lines = scale_hyperparameters(_adamw(3), 4).text.splitlines()
    assert len([line for line in lines if line.startswith("  lr: 0.001 -> 0.002")]) == 1
    assert [line.split(",")[0] for line in lines if "weight_decay (" in line] == [
        "  weight_decay (group 0): 0.1 -> 0.2",
        "  weight_decay (group 1): 0.05 -> 0.1",
        "  weight_decay (group 2): 0.0333333 -> 0.0666667",
    ]


def test_a_report_that_set_nothing_says_so() -> None:
    """Not applied, and not changed, are two things."""
    assert scale_hyperparameters(_adamw(), 4, apply=False).text.startswith(
        "4 times the effective batch, rule 'square_root', not applied:\n"
    )
    assert (
        scale_hyperparameters(_adamw(), 1).text == "1 times the effective batch, rule 'square_root':\n  nothing changes"
    )


def test_a_warm_up_of_steps_alone_names_no_epochs() -> None:
    """What does not follow is not said."""
    text = scale_hyperparameters(_adamw(), 4, warm_up_steps=100).text
    assert "  warm-up: 25 steps in a straight line from 0 of the learning rate, over as many items as before" in text


def test_a_smaller_batch_is_told_of_more_steps() -> None:
    """Half the batch, twice the steps."""
    assert "note: multiply by 2 what is counted in steps" in scale_hyperparameters(_adamw(), 0.5).text


def test_a_rule_beyond_what_it_was_made_for_says_so() -> None:
    """Linear for Adam, and LEGW for it without a warm-up."""
    assert "the linear rule is derived for SGD" in scale_hyperparameters(_adamw(), 4, rule="linear").text
    text = scale_hyperparameters(_adamw(), 4, rule="legw").text
    assert "the decays and eps stay: square_root scales them too" in text
    assert "there is none: give warm_up_steps" in text


def test_sgd_by_the_square_root_is_told_to_keep_its_steps() -> None:
    """Hoffer 2017 train for as many steps as before, which are more passes over the data."""
    text = scale_hyperparameters(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), 4, rule="square_root").text
    assert "note: keep what is counted in steps: the rule is for as many steps as before, 4 times the passes" in text
    assert "divide" not in text


def test_an_optimiser_without_a_rule_of_its_own_is_told() -> None:
    """Its rate follows the rule that was asked for; nobody has derived that."""
    text = scale_hyperparameters(torch.optim.NAdam([nn.Parameter(torch.ones(2))]), 4, rule="square_root").text
    assert "note: no rule was derived for NAdam: only its learning rate is scaled" in text


def test_a_weight_decay_that_is_part_of_the_loss_is_told_to_stay() -> None:
    """The rule for weight decay has nothing to do for SGD."""
    text = scale_hyperparameters(torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), 4, rule="weight_decay").text
    assert "nothing changes" in text
    assert "note: this weight decay is added to the gradient, as a part of the loss, and stays" in text
