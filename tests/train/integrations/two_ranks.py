"""One of two processes that train together in the loops of others, and with samplers that know of ranks.

torchrun --standalone --nproc-per-node 2 -m tests.train.integrations.two_ranks FOLDER
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.buckets import LengthBucketSampler
from carpool.train.data.token_budget import TokenBudgetSampler
from carpool.train.data.windows import EffectiveBatchSampler, WindowSampler
from carpool.train.integrations.lightning import CarpoolCallback
from carpool.train.noise.listener import NoiseScale
from tests.train.integrations import test_accelerate, test_hugging_face, test_lightning

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.train.noise.estimate import NoiseEstimate

PLAN = BatchPlan(effective_batch_size=6, micro_batch_size=1, num_ranks=2)
LENGTHS = (3, 9, 4, 1, 7, 7, 2, 5, 6, 8, 1, 1, 9)  # a last window of one item: one rank has none of it
SAMPLERS: dict[str, Callable[[BatchPlan, int], WindowSampler]] = {
    "random": lambda plan, rank: EffectiveBatchSampler(len(LENGTHS), plan, rank=rank),
    "bucketed": lambda plan, rank: LengthBucketSampler(LENGTHS, plan, rank=rank, pool_windows=1),
    "by tokens": lambda plan, rank: TokenBudgetSampler(LENGTHS, plan, rank=rank, token_budget=10),
}


def told(estimate: NoiseEstimate) -> list[float]:
    """What two measurements of the noise scale have in common."""
    return [estimate.num_windows, estimate.noise_scale, estimate.low]


def rank_of(plan: BatchPlan) -> int:
    """Which of the processes this is."""
    return distributed.get_rank() if plan.num_ranks > 1 else 0


def backend(plan: BatchPlan) -> dict[str, Any]:
    """How processes meet, where there are several."""
    return {"ddp_backend": "gloo"} if plan.num_ranks > 1 else {}


def hugging_face(plan: BatchPlan, folder: Path) -> dict[str, Any]:
    """Train in Trainer; what it divides by, this model is not told."""
    model = test_hugging_face.own_model(test_hugging_face.TupleOfLabels)
    texts = test_hugging_face.texts()[:12]
    callback, _ = test_hugging_face.train(model, texts, folder, plan, max_grad_norm=0.5, **backend(plan))
    return {"weights": test_hugging_face.weights(model), "noise": told(callback.estimate())}


def hugging_face_that_does_not_listen(plan: BatchPlan, folder: Path) -> dict[str, Any]:
    """Train in Trainer a model whose loss ignores what it is told."""
    model, items = test_hugging_face.classifier(), test_hugging_face.classes()[:12]
    callback, _ = test_hugging_face.train(model, items, folder, plan, **backend(plan))
    return {"weights": test_hugging_face.weights(model), "noise": told(callback.estimate())}


def lightning(plan: BatchPlan, _: Path) -> dict[str, Any]:
    """Train in Lightning, which leaves a sampler that knows of ranks as it is."""
    callback = CarpoolCallback(plan, count=test_lightning.count, decay=1.0)
    more: dict[str, Any] = {"strategy": "ddp", "use_distributed_sampler": False} if plan.num_ranks > 1 else {}
    sampler = EffectiveBatchSampler(12, plan, rank=rank_of(plan))
    weights = test_lightning.fit(callback, loader={"batch_sampler": sampler}, devices=plan.num_ranks, **more)
    return {"weights": weights, "noise": told(callback.estimate())}


def accelerate(plan: BatchPlan, _: Path) -> dict[str, Any]:
    """Train in a loop with Accelerate."""
    return {"weights": test_accelerate.train(plan)}


def sampled(name: str, plan: BatchPlan) -> dict[str, Any]:
    """Train for two epochs with an accumulator and a sampler of windows."""
    sampler = SAMPLERS[name](plan, rank_of(plan))
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(len(LENGTHS), 3, dtype=torch.float64))
    loader: DataLoader[Any] = DataLoader(data, batch_sampler=sampler)
    bare = nn.Linear(3, 1, dtype=torch.float64)
    model = DistributedDataParallel(bare) if plan.num_ranks > 1 else bare
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=plan)
    accumulator.listeners.append(NoiseScale(model))
    for _ in range(2):
        for window in accumulator.windows(loader):
            for (x,) in window:
                window.backward((model(x) - 1).square().sum())
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    return {"weights": weights, "windows": accumulator.num_windows}


def run(plan: BatchPlan, folder: Path) -> dict[str, Any]:
    """Run everything, in one order on all ranks."""
    loops = (hugging_face, hugging_face_that_does_not_listen, lightning, accelerate)
    done = {loop.__name__: loop(plan, folder) for loop in loops}
    return done | {name: sampled(name, plan) for name in SAMPLERS}


def main() -> None:
    """Meet the other process, and run."""
    warnings.simplefilter("ignore")  # of the hosts
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    os.chdir(folder)
    distributed.init_process_group("gloo")
    try:
        torch.save(run(PLAN, folder), folder / f"rank{distributed.get_rank()}.pt")
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
