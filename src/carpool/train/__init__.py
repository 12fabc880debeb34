"""Train with the batch that was asked for, whatever the memory: exactly, at the learning rate that goes with it.

The public names below are loaded when first used:

>>> import carpool.train
>>> carpool.train.BatchPlan.of(effective_batch_size=1024, micro_batch_size=64, num_ranks=2).num_accumulation_steps
8
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.train.accumulate import Accumulator
    from carpool.train.autosize.agree import RankStore
    from carpool.train.autosize.find import find_micro_batch
    from carpool.train.autosize.freed_memory import give_back_freed_memory
    from carpool.train.autosize.result import MicroBatch
    from carpool.train.batch_norm import check_batch_norm
    from carpool.train.batch_plan import BatchPlan
    from carpool.train.data.buckets import LengthBucketSampler
    from carpool.train.data.first_fit import first_fit
    from carpool.train.data.lengths import Padding
    from carpool.train.data.packing import Packed, pack, packed_mask
    from carpool.train.data.token_budget import TokenBudgetSampler
    from carpool.train.data.windows import EffectiveBatchSampler
    from carpool.train.exact_batch_norm import ExactBatchNorm
    from carpool.train.grad_cache import GradCache
    from carpool.train.noise.estimate import NoiseEstimate
    from carpool.train.noise.listener import NoiseScale
    from carpool.train.noise.measure import CriticalBatch, measure_critical_batch
    from carpool.train.noise.time_optimal import StepCost, TimeOptimal, time_optimal_batch
    from carpool.train.noise.warm_up import BatchWarmUp
    from carpool.train.planning.assemble import TrainPlanOptions
    from carpool.train.planning.compare import Compared, compare_batches
    from carpool.train.planning.make import plan_training
    from carpool.train.planning.plan import TrainPlan
    from carpool.train.scaling.adascale import AdaScale
    from carpool.train.scaling.apply import scale_hyperparameters
    from carpool.train.scaling.report import ScalingReport
    from carpool.train.setup import TrainSetup
    from carpool.train.window import GradientListener, Window, WindowResult, WindowStart

_HOMES = {
    "Accumulator": "carpool.train.accumulate",
    "AdaScale": "carpool.train.scaling.adascale",
    "BatchPlan": "carpool.train.batch_plan",
    "BatchWarmUp": "carpool.train.noise.warm_up",
    "Compared": "carpool.train.planning.compare",
    "CriticalBatch": "carpool.train.noise.measure",
    "EffectiveBatchSampler": "carpool.train.data.windows",
    "ExactBatchNorm": "carpool.train.exact_batch_norm",
    "GradCache": "carpool.train.grad_cache",
    "GradientListener": "carpool.train.window",
    "LengthBucketSampler": "carpool.train.data.buckets",
    "MicroBatch": "carpool.train.autosize.result",
    "NoiseEstimate": "carpool.train.noise.estimate",
    "NoiseScale": "carpool.train.noise.listener",
    "Packed": "carpool.train.data.packing",
    "Padding": "carpool.train.data.lengths",
    "RankStore": "carpool.train.autosize.agree",
    "ScalingReport": "carpool.train.scaling.report",
    "StepCost": "carpool.train.noise.time_optimal",
    "TimeOptimal": "carpool.train.noise.time_optimal",
    "TokenBudgetSampler": "carpool.train.data.token_budget",
    "TrainPlan": "carpool.train.planning.plan",
    "TrainPlanOptions": "carpool.train.planning.assemble",
    "TrainSetup": "carpool.train.setup",
    "Window": "carpool.train.window",
    "WindowResult": "carpool.train.window",
    "WindowStart": "carpool.train.window",
    "check_batch_norm": "carpool.train.batch_norm",
    "compare_batches": "carpool.train.planning.compare",
    "find_micro_batch": "carpool.train.autosize.find",
    "first_fit": "carpool.train.data.first_fit",
    "give_back_freed_memory": "carpool.train.autosize.freed_memory",
    "measure_critical_batch": "carpool.train.noise.measure",
    "pack": "carpool.train.data.packing",
    "packed_mask": "carpool.train.data.packing",
    "plan_training": "carpool.train.planning.make",
    "scale_hyperparameters": "carpool.train.scaling.apply",
    "time_optimal_batch": "carpool.train.noise.time_optimal",
}

__all__ = [
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
]


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it.

    Raises:
        AttributeError: If ``name`` is not one of the names in ``__all__``.
    """
    if name not in _HOMES:
        message = f"module 'carpool.train' has no attribute {name!r}; it offers {', '.join(__all__)}"
        raise AttributeError(message)
    from importlib import import_module

    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next look-up finds it without coming here
    return value


def __dir__() -> list[str]:
    """List the public names beside those that every module has."""
    return sorted({*globals(), *__all__})
