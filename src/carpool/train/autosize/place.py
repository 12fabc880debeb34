"""Where a setup is tried, and how much memory it may take there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from carpool.errors import ConfigError
from carpool.profile.memory_limit import MemoryLimit, find_limit
from carpool.train.autosize.process import FreshProcesses
from carpool.train.autosize.source import load_setup, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from carpool.train.autosize.answer import Answer
    from carpool.train.setup import TrainSetup

ACCELERATOR_SHARE = 0.95
MEASURE = "peak of the process's resident memory, libraries included, what is freed being given back at once"


class Prober(Protocol):
    """Trains with micro-batches of the sizes it is asked for; the seam at which tests put made-up memory."""

    def ask(self, size: int) -> Answer:
        """Train with micro-batches of one size."""
        ...

    def time(self, sizes: Sequence[int], budget_s: float) -> Answer:
        """Time micro-batches of several sizes that fit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where sizes are tried.

    Args:
        prober: tries them.
        limit: the most memory that they may take.
        measure: what of memory is measured, in words.
    """

    prober: Prober
    limit: MemoryLimit
    measure: str


def open_place(
    setup: str | Callable[[], TrainSetup] | TrainSetup,
    *,
    device: str | None,
    given_bytes: int | None,
    timeout_s: float,
    num_ranks: int = 1,
    num_here: int = 1,
) -> Place:
    """Try sizes in this process where the model computes on an accelerator, else in processes of their own.

    Args:
        setup: what training consists of.
        device: "cpu" or an accelerator; None to find out.
        given_bytes: the most that was asked for.
        timeout_s: seconds after which a process is ended.
        num_ranks: processes that train together.
        num_here: of them on this machine.

    Raises:
        ConfigError: the device is not there, or the model is not on it.
    """
    if device != "cpu":
        made = _on_accelerator(setup, device)
        if made is not None:
            return _in_this_process(made, given_bytes, reserves=num_ranks > 1)
    limit = find_limit(given_bytes, num_processes=num_here)
    prober = FreshProcesses(
        source_of(setup),
        limit_bytes=limit.limit_bytes,
        timing_limit_bytes=find_limit(num_processes=num_here).limit_bytes,
        timeout_s=timeout_s,
        reserves=num_ranks > 1,
    )
    return Place(prober=prober, limit=limit, measure=MEASURE)


def _on_accelerator(
    setup: str | Callable[[], TrainSetup] | TrainSetup, device: str | None
) -> tuple[TrainSetup, torch.device] | None:
    """Make the setup, where its model computes on an accelerator; None where it computes on the CPU."""
    import torch

    from carpool.models.torch_device import resolve_device
    from carpool.train.autosize.probe import device_of

    if resolve_device(device).type == "cpu":
        return None
    made = load_setup(setup)
    here = device_of(made)
    if device is not None and here.type != torch.device(device).type:
        raise ConfigError(f"the model is on {here}, and device is {device!r}: leave it out, or move the model there")
    return None if here.type == "cpu" else (made, here)


def _in_this_process(made: tuple[TrainSetup, torch.device], given_bytes: int | None, *, reserves: bool) -> Place:
    import torch

    from carpool.train.autosize.isolated import Isolated, free_memory

    setup, device = made
    free_memory()
    return Place(
        prober=Isolated(setup, reserves=reserves),
        limit=accelerator_limit(torch.accelerator, device, given_bytes),
        measure=f"the most that PyTorch's allocator took of {device}",
    )


def accelerator_limit(accelerator: Any, device: torch.device, given_bytes: int | None) -> MemoryLimit:
    """Return the most that this process may take of an accelerator's memory.

    Args:
        accelerator: PyTorch's module for accelerators, `torch.accelerator`.
        device: the accelerator.
        given_bytes: the most that was asked for.

    Raises:
        ConfigError: PyTorch does not tell the memory of such a device.
    """
    try:
        free, _ = accelerator.get_memory_info(device)
        # What this process has taken already, the model first of all, is part of the peak.
        ours = accelerator.memory_reserved(device)
    except (AttributeError, RuntimeError) as error:
        raise ConfigError(
            f"PyTorch does not tell the memory of {device} ({error}): choose the micro-batch by hand, or update PyTorch"
        ) from error
    limit = int(ACCELERATOR_SHARE * (free + ours))
    if given_bytes is not None and given_bytes < limit:
        return MemoryLimit(limit_bytes=given_bytes, source="as asked for")
    return MemoryLimit(limit_bytes=limit, source=f"{ACCELERATOR_SHARE:.0%} of the memory free on {device}")
