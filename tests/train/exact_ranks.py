"""One of two processes that share windows whose items depend on each other: runs every scenario, and saves the outcome.

python -m tests.train.exact_ranks RANK MEETING_POINT RESULTS
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from carpool.errors import ConfigError
from carpool.train import Accumulator, BatchPlan
from carpool.train.exact_batch_norm import ExactBatchNorm
from carpool.train.grad_cache import GradCache
from tests.train.images import NUM_ITEMS, Classifier, Images, images_of, loss_of
from tests.train.pairs import Pair, contrast, encoders_of, pairs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

NUM_RANKS = 2
PLAN = BatchPlan(effective_batch_size=NUM_ITEMS, micro_batch_size=3, num_ranks=NUM_RANKS)
SIZES = ((3, 3, 2), (4, 1))  # of each rank's micro-batches: other numbers on each


def share(rank: int) -> list[Images]:
    """Give a rank's images."""
    micro_batches = images_of([*SIZES[0], *SIZES[1]])
    return micro_batches[: len(SIZES[0])] if rank == 0 else micro_batches[len(SIZES[0]) :]


def pairs(rank: int) -> list[Pair]:
    """Give a rank's queries and texts."""
    micro_batches = pairs_of([*SIZES[0], *SIZES[1]])
    return micro_batches[: len(SIZES[0])] if rank == 0 else micro_batches[len(SIZES[0]) :]


def exact_windows(rank: int) -> dict[str, torch.Tensor]:
    """Take two steps in windows whose BatchNorm layers see all ranks; in the second, rank 1 has no micro-batch."""
    model = DistributedDataParallel(Classifier())
    accumulator = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=PLAN)
    accumulator.listeners.append(ExactBatchNorm(model, loss_of))
    accumulator.step(share(rank), loss_of)
    accumulator.step(share(0) if rank == 0 else [], loss_of)
    return dict(model.module.state_dict())


def cached(encoders: list[nn.Module], micro_batches: list[Pair]) -> dict[str, Any]:
    """Compute the gradients of a loss over all ranks' pairs."""
    loss = GradCache(encoders, contrast).backward(micro_batches)
    return {"loss": loss, "gradients": gathered(encoders)}


def gathered(encoders: list[nn.Module]) -> torch.Tensor:
    """Give all gradients, those of sharded parameters put together."""
    gradients = [parameter.grad for encoder in encoders for parameter in encoder.parameters()]
    whole = [one.full_tensor() if hasattr(one, "full_tensor") else one for one in gradients if one is not None]
    return torch.cat([one.flatten() for one in whole])


def shared_encoder(rank: int) -> dict[str, Any]:
    """Let one wrapped encoder embed both inputs."""
    encoder = DistributedDataParallel(encoders_of()[0])
    inputs = [(queries, queries + 1) for queries, _ in pairs(rank)]
    loss = GradCache([encoder, encoder], contrast).backward(inputs)
    return {"loss": loss, "gradients": gathered([encoder])}


def refused(make: Callable[[], object]) -> str:
    """Give the message of what cannot be."""
    try:
        make()
    except ConfigError as error:
        return str(error)
    return "nothing was refused"


def sharded(encoder: nn.Module) -> nn.Module:
    """Let each rank hold a part of an encoder."""
    fully_shard(encoder)
    return encoder


def run(rank: int) -> dict[str, Any]:
    """Run all scenarios in one order on both ranks."""
    encoders = [DistributedDataParallel(encoder) for encoder in encoders_of()]
    parts = [sharded(encoder) for encoder in encoders_of()]
    return {
        "exact windows": exact_windows(rank),
        "cached": cached([DistributedDataParallel(encoder) for encoder in encoders_of()], pairs(rank)),
        "sharded": cached([sharded(encoder) for encoder in encoders_of()], pairs(0)),
        "shared": shared_encoder(rank),
        "nothing on rank 1": refused(lambda: GradCache(encoders, contrast).backward(pairs(0) if rank == 0 else [])),
        "too few inputs on rank 1": refused(
            lambda: GradCache(encoders, contrast).backward([batch[: 2 - rank] for batch in pairs(rank)])
        ),
        "other numbers of passes": refused(lambda: GradCache(parts, contrast).backward(pairs(rank))),
        "not wrapped": refused(lambda: GradCache([encoders[0], encoders_of()[1]], contrast)),
        "other shapes": refused(
            lambda: GradCache(encoders, contrast, encode=lambda _, inputs: inputs[:, rank:]).backward(pairs(rank))
        ),
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
