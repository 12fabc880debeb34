"""Ranks agree on a micro-batch through a store: no rank waits in a collective for one that ran out of memory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol, Self

from carpool.errors import ConfigError, ModelError
from carpool.models.loaded_torch import loaded_torch
from carpool.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

_KEY = "carpool/micro_batch"


class Store(Protocol):
    """What is needed of a store of `torch.distributed`."""

    def set(self, key: str, value: str, /) -> None:
        """Keep a value under a key."""
        ...

    def get(self, key: str, /) -> bytes:
        """Return what is kept under a key."""
        ...

    def add(self, key: str, value: int, /) -> int:
        """Add to the number under a key, 0 at first, and return it."""
        ...

    def wait(self, keys: list[str], timeout: timedelta, /) -> None:
        """Wait until all keys are there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RankStore:
    """Where the ranks that train together leave each other notes.

    Args:
        store: of `torch.distributed`; the same on all ranks.
        rank: of this process, from 0.
        num_ranks: processes; all of them must search.
        num_here: of them on this machine, which share its memory.
    """

    store: Store
    rank: int
    num_ranks: int
    num_here: int = 1

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """Find the ranks that this process trains with; None where it is alone.

        Where `init_process_group` was called, its store is used; else that of `torchrun`, by the environment.

        Args:
            environ: of this process.

        Raises:
            ConfigError: the environment names ranks, and no store is there.
        """
        torch = loaded_torch()
        num_here = int(environ.get("LOCAL_WORLD_SIZE", "1"))
        if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
            distributed = torch.distributed
            num_ranks = distributed.get_world_size()
            store = distributed.distributed_c10d._get_default_store()  # noqa: SLF001 - there is no public way to it
            rank = distributed.get_rank()
        elif int(environ.get("WORLD_SIZE", "1")) > 1:
            store, rank, num_ranks = _by_environment()
        else:
            return None
        return None if num_ranks == 1 else cls(store=store, rank=rank, num_ranks=num_ranks, num_here=num_here)

    def leave(self, note: Mapping[str, Any]) -> str:
        """Leave a note for all ranks; all ranks must do so equally often.

        Args:
            note: what to say, as JSON can.

        Returns:
            Where the notes of this turn are.
        """
        start = f"{_KEY}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        turn = f"{start}/{self.store.add(f'{start}/{self.rank}', 1)}"
        self.store.set(f"{turn}/{self.rank}", json.dumps(note))
        return turn

    def exchange(self, note: Mapping[str, Any], timeout_s: float) -> list[dict[str, Any]]:
        """Leave a note for all ranks, and read theirs.

        Args:
            note: what to say, as JSON can; an `error` that this rank met is raised by all others.
            timeout_s: seconds to wait for the others.

        Returns:
            The notes, in the order of the ranks.

        Raises:
            ModelError: another rank met an error, or said nothing in time.
        """
        turn = self.leave(note)
        keys = [f"{turn}/{rank}" for rank in range(self.num_ranks)]
        notes = []
        for rank, key in enumerate(keys):
            self._wait(key, rank, timeout_s)
            notes.append(json.loads(self.store.get(key)))
            if "error" in notes[-1]:
                raise ModelError(f"rank {rank} found no micro-batch: {notes[-1]['error']}")
        return notes

    def _wait(self, key: str, rank: int, timeout_s: float) -> None:
        from torch.distributed import DistError

        try:
            self.store.wait([key], timedelta(seconds=timeout_s))
        except DistError as error:
            raise ModelError(
                f"rank {rank} said nothing of its micro-batch within {format_duration(timeout_s)}: all "
                f"{self.num_ranks} ranks must search for it"
            ) from error


def _by_environment() -> tuple[Any, int, int]:
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, num_ranks = next(rendezvous("env://"))
    except ValueError as error:
        raise ConfigError(
            f"WORLD_SIZE names several ranks, and there is no way to reach them ({error}): start them by torchrun"
        ) from error
    return store, rank, num_ranks
