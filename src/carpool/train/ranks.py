"""The processes that share a window, and when they exchange gradients."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.distributed import ProcessGroup

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from carpool.train.batch_plan import BatchPlan


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train a model together; their gradients are averaged by the model's own wrapper.

    Args:
        num: processes.
        group: of `torch.distributed`; None for all of them, or where there is one.
        device: of the model, on which they exchange numbers.
    """

    num: int
    group: ProcessGroup | None
    device: torch.device

    @classmethod
    def of(cls, model: nn.Module, *, group: ProcessGroup | None, plan: BatchPlan) -> Self:
        """Find who trains a model.

        Args:
            model: itself, or wrapped for several ranks.
            group: those that the model's gradients are averaged over, where that is not all processes.
            plan: says how many there should be.

        Raises:
            ConfigError: there are more or fewer than planned, nothing averages their gradients, or every pass does.
        """
        exchanging = exchanges_gradients(model)
        if not exchanging and (plan.num_ranks > 1 or group is not None):
            raise ConfigError(
                f"the plan has {plan.num_ranks} ranks, and {type(model).__name__} does not average their gradients: "
                "wrap it in torch.nn.parallel.DistributedDataParallel, or call fully_shard on it"
            )
        num = 1
        if exchanging and torch.distributed.is_initialized():
            group = group or getattr(model, "process_group", None)
            num = torch.distributed.get_world_size(group)
        if num != plan.num_ranks:
            raise ConfigError(
                f"the plan has {plan.num_ranks} ranks, and {num} train together: use plan.with_ranks({num}), which "
                "keeps the effective batch"
            )
        if getattr(model, "static_graph", False) and plan.num_accumulation_steps > 1:
            raise ConfigError(
                "DistributedDataParallel with static_graph=True exchanges gradients in every backward pass: leave "
                "static_graph out to accumulate them"
            )
        first = next(model.parameters(), None)
        return cls(num, group, torch.device("cpu") if first is None else first.device)

    def gather(self, *numbers: float) -> list[tuple[float, ...]]:
        """Let every rank know every rank's numbers; all ranks must call it.

        Args:
            numbers: of this rank; as many on each.

        Returns:
            Those of each rank, in the order of the ranks.
        """
        if self.num == 1:
            return [numbers]
        mine = torch.tensor(numbers, dtype=torch.float64, device=self.device)  # counts up to 2^53 are exact in it
        everyone = [torch.empty_like(mine) for _ in range(self.num)]
        torch.distributed.all_gather(everyone, mine, group=self.group)
        return [tuple(numbers.tolist()) for numbers in everyone]


def exchanges_gradients(model: nn.Module) -> bool:
    """Whether a model's backward pass averages gradients over ranks: DistributedDataParallel and fully_shard do.

    Args:
        model: or what wraps it.
    """
    return hasattr(model, "no_sync") or hasattr(model, "set_requires_gradient_sync")


@contextmanager
def gradients_kept(model: nn.Module) -> Iterator[None]:
    """Let the passes inside add to this rank's gradients only; the first backward pass after it exchanges the sums.

    Args:
        model: or what wraps it; nothing changes for one that exchanges nothing.
    """
    switch: Any = getattr(model, "set_requires_gradient_sync", None)  # of fully_shard
    if switch is None:
        without: Any = getattr(model, "no_sync", nullcontext)  # of DistributedDataParallel
        with without():
            yield
        return
    switch(requires_gradient_sync=False)
    try:
        yield
    finally:
        switch(requires_gradient_sync=True)
