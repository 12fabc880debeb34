"""One of two processes that train together: measures the noise scale in several ways, and saves what it found.

python -m tests.train.noise.two_ranks RANK MEETING_POINT RESULTS
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.listener import NoiseScale

if TYPE_CHECKING:
    from collections.abc import Sequence

NUM_RANKS = 2
# Items of each micro-batch of each rank in a window. The last: a rank has none.
SIZES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((4, 3), (2, 4)),
    ((4,), (4, 1)),
    ((1, 4), (4, 4)),
    ((4, 4), ()),
)
ONE_EACH = (((4,), (3,)), ((2,), (4,)), ((4,), (4,)))


def net() -> nn.Module:
    """Make a small model, always the same."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4, dtype=torch.float64), nn.Tanh(), nn.Linear(4, 1, dtype=torch.float64))


def micro_batches(sizes: Sequence[Sequence[int]], seed: int) -> list[list[torch.Tensor]]:
    """Make the micro-batches of each rank in a window."""
    draw = torch.Generator().manual_seed(seed)
    return [[torch.randn(size, 5, generator=draw, dtype=torch.float64) for size in rank] for rank in sizes]


def summed(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Compute a loss that is a sum over items."""
    return torch.as_tensor((model(batch) - batch.sum(1, keepdim=True)).square().sum())


def measured(rank: int, windows: Sequence[Sequence[Sequence[int]]] = SIZES, **options: Any) -> dict[str, Any]:
    """Measure while copies of a model train."""
    model = DistributedDataParallel(net(), gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    plan = BatchPlan(effective_batch_size=16, micro_batch_size=4, num_ranks=NUM_RANKS)
    accumulator, noise = Accumulator(model, optimizer, plan=plan, **options), NoiseScale(model)
    accumulator.listeners.append(noise)
    warm_up = [torch.zeros(1, 5, dtype=torch.float64)]  # so that each rank has had a micro-batch to repeat
    accumulator.step(warm_up, summed)
    noise.load_state_dict(NoiseScale(model).state_dict())
    for seed, sizes in enumerate(windows):
        accumulator.step(micro_batches(sizes, seed)[rank], summed)
    found = noise.estimate()
    return {"S": found.S, "G2": found.G2, "num_windows": found.num_windows, "low": found.low, "high": found.high}


def sharded(rank: int) -> str:
    """Say what comes of it where each rank holds a part of the model."""
    model = net()
    fully_shard(model)
    plan = BatchPlan(effective_batch_size=16, micro_batch_size=4, num_ranks=NUM_RANKS)
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=plan)
    accumulator.listeners.append(NoiseScale(model))
    try:
        accumulator.step(micro_batches(SIZES[0], 0)[rank], summed)
    except ConfigError as error:
        return str(error)
    return "nothing was refused"


def run(rank: int) -> dict[str, Any]:
    """Run all scenarios in one order on both ranks."""
    return {
        "accumulated": measured(rank),
        "one each": measured(rank, ONE_EACH),
        "mixed precision": measured(rank, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0), max_norm=1e9),
        "sharded": sharded(rank),
    }


def main() -> None:
    """Meet the other process, and run."""
    rank, meeting_point, results = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=NUM_RANKS)
    try:
        torch.save(run(rank), results)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
