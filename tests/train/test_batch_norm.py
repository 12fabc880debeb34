"""BatchNorm under accumulation is found, and told with what helps."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from torch import nn

from carpool.errors import ConfigError
from carpool.train import BatchPlan
from carpool.train.batch_norm import check_batch_norm, find
from tests.train.images import loss_of

PLAN = BatchPlan(effective_batch_size=1024, micro_batch_size=32)


def test_layers_are_found_by_what_they_do() -> None:
    """Those that look at the batch are named: not frozen ones, and not those that look at each item alone."""
    model = nn.ModuleDict(
        {
            "one": nn.BatchNorm1d(2),
            "frozen": nn.BatchNorm2d(2).eval(),
            "never frozen": nn.BatchNorm3d(2, track_running_stats=False).eval(),
            "synchronised": nn.SyncBatchNorm(2),
            "alone": nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.InstanceNorm2d(2)),
        }
    )
    assert find(model) == ("one", "never frozen", "synchronised")


def test_a_warning_says_which_layers_and_what_helps() -> None:
    """By default a user is told, with names, numbers and the remedies with their price."""
    model = nn.Sequential(*(nn.BatchNorm1d(2) for _ in range(5)))
    with pytest.warns(
        UserWarning, match=r"layers 0, 1, 2 and 2 more take their statistics from the 32 items .* of 1024"
    ):
        assert check_batch_norm(model, PLAN) is None
    with pytest.raises(
        ConfigError, match=r"the BatchNorm layer \(the model itself\) takes its .* \(3 forward passes a"
    ):
        check_batch_norm(nn.BatchNorm1d(2), PLAN, how="refuse")


def test_nothing_is_said_where_nothing_differs() -> None:
    """One micro-batch a step, no such layer, or one that ranks join: there is nothing to warn of."""
    at_once = BatchPlan(effective_batch_size=64, micro_batch_size=64)
    on_ranks = BatchPlan(effective_batch_size=64, micro_batch_size=32, num_ranks=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_batch_norm(nn.BatchNorm1d(2), at_once) is None
        assert check_batch_norm(nn.LayerNorm(2), PLAN) is None
        assert check_batch_norm(nn.SyncBatchNorm(2), on_ranks) is None
        assert check_batch_norm(nn.BatchNorm1d(2), at_once, how="exact", loss=loss_of) is None
    with pytest.raises(ConfigError, match="turn it into SyncBatchNorm"):
        check_batch_norm(nn.BatchNorm1d(2), on_ranks, how="refuse")


def test_wrong_ways_are_refused() -> None:
    """A way that there is not, and exactness without a loss, are told."""
    wrong: Any = "quietly"
    with pytest.raises(ConfigError, match="how is 'quietly': it is one of 'warn', 'refuse' and 'exact'"):
        check_batch_norm(nn.BatchNorm1d(2), PLAN, how=wrong)
    with pytest.raises(ConfigError, match="give loss="):
        check_batch_norm(nn.BatchNorm1d(2), PLAN, how="exact")
