"""The public names of training: each can be had, none is there by accident, and none costs anything before its use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import carpool.train

PUBLIC_NAMES = {
    "Accumulator",
    "AdaScale",
    "BatchPlan",
    "BatchWarmUp",
    "Compared",
    "CriticalBatch",
    "EffectiveBatchSampler",
    "ExactBatchNorm",
    "GradCache",
    "GradientListener",
    "LengthBucketSampler",
    "MicroBatch",
    "NoiseEstimate",
    "NoiseScale",
    "Packed",
    "Padding",
    "RankStore",
    "ScalingReport",
    "StepCost",
    "TimeOptimal",
    "TokenBudgetSampler",
    "TrainPlan",
    "TrainPlanOptions",
    "TrainSetup",
    "Window",
    "WindowResult",
    "WindowStart",
    "check_batch_norm",
    "compare_batches",
    "find_micro_batch",
    "first_fit",
    "give_back_freed_memory",
    "measure_critical_batch",
    "pack",
    "packed_mask",
    "plan_training",
    "scale_hyperparameters",
    "time_optimal_batch",
}


def test_public_names_are_exactly_these() -> None:
    """A name added to or taken from the public interface is a decision: it changes this list and the changelog."""
    assert set(carpool.train.__all__) == PUBLIC_NAMES
    assert carpool.train.__all__ == sorted(carpool.train.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_every_public_name_can_be_had(name: str) -> None:
    """Each name is loaded from the module that defines it and is listed by dir()."""
    assert getattr(carpool.train, name) is not None
    assert name in dir(carpool.train)


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    """A misspelt name says what the module offers."""
    with pytest.raises(AttributeError, match=r"has no attribute 'Acumulator'; it offers .*Accumulator"):
        carpool.train.Acumulator  # noqa: B018


def test_names_for_type_checkers_are_those_loaded_at_run_time() -> None:
    """What a type checker sees imported is what is loaded on use, from the same module."""
    tree = ast.parse(Path(str(carpool.train.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == carpool.train._HOMES
    assert set(imported) == PUBLIC_NAMES


def test_the_package_loads_no_torch_before_a_name_needs_it() -> None:
    """Planning a batch costs no import of torch."""
    code = (
        "import sys, carpool.train; carpool.train.BatchPlan(effective_batch_size=8, micro_batch_size=2); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
