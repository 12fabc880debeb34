"""What ranks that share a window tell each other, beyond gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.distributed import ProcessGroup

from carpool.train.ranks import exchanges_gradients

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


@dataclass(frozen=True, slots=True)
class Exchange:
    """The ranks that share a window.

    Args:
        num_ranks: processes.
        rank: of this one, from 0.
        group: of `torch.distributed`; None for all of them, or where there is one.
    """

    num_ranks: int
    rank: int
    group: ProcessGroup | None

    @classmethod
    def of(cls, models: Iterable[nn.Module], group: ProcessGroup | None) -> Self:
        """Find who shares a window: those who average the models' gradients.

        Args:
            models: themselves, or wrapped for several ranks.
            group: the ranks, where that is not what the models' wrapper says.
        """
        exchanging = [model for model in models if exchanges_gradients(model)]
        if not exchanging and group is None:
            return cls(1, 0, None)
        group = group or getattr(exchanging[0], "process_group", None)
        return cls(torch.distributed.get_world_size(group), torch.distributed.get_rank(group), group)

    def tensors(self, mine: torch.Tensor) -> list[torch.Tensor]:
        """Let every rank have every rank's tensor; all ranks must call it.

        Args:
            mine: of this rank; of one shape and type on all.

        Returns:
            That of each rank, in the order of the ranks.
        """
        if self.num_ranks == 1:
            return [mine]
        everyone = [torch.empty_like(mine) for _ in range(self.num_ranks)]
        torch.distributed.all_gather(everyone, mine.contiguous(), group=self.group)
        return everyone

    def objects(self, mine: Any) -> list[Any]:
        """Let every rank have every rank's object; all ranks must call it.

        Args:
            mine: of this rank; can be pickled.

        Returns:
            That of each rank, in the order of the ranks.
        """
        if self.num_ranks == 1:
            return [mine]
        everyone: list[Any] = [None] * self.num_ranks
        torch.distributed.all_gather_object(everyone, mine, group=self.group)
        return everyone
