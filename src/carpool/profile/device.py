"""The device that a model computes on: waiting for it, timing it, and its own peaks of memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from carpool.models.loaded_torch import loaded_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Value = TypeVar("Value")


class Device(Protocol):
    """What measuring needs of a device."""

    name: str
    is_accelerator: bool

    def synchronize(self) -> None:
        """Wait until all that was launched is done."""

    def timed(self, function: Callable[[], Value]) -> tuple[Value, float, float]:
        """Run a function; return its value, its seconds until all work was done, and the device's own seconds of it."""


class Host:
    """A CPU, or a library that returns only when its work is done: there is nothing to wait for.

    Args:
        name: How to name it.
        clock: Seconds from any origin.
    """

    is_accelerator = False

    def __init__(self, name: str = "cpu", clock: Callable[[], float] = time.perf_counter) -> None:
        self.name = name
        self._clock = clock

    def synchronize(self) -> None:
        """Nothing is pending."""

    def timed(self, function: Callable[[], Value]) -> tuple[Value, float, float]:
        """Run a function; the device's own time is all of it."""
        start = self._clock()
        value = function()
        seconds = self._clock() - start
        return value, seconds, seconds


class Accelerator:
    """An accelerator of PyTorch's: `cuda`, `xpu`, `mps` and the like.

    Args:
        name: As PyTorch names it, such as `cuda:0`.
        clock: Seconds from any origin.
    """

    is_accelerator = True

    def __init__(self, name: str, clock: Callable[[], float] = time.perf_counter) -> None:
        import torch

        self.name = name
        self._clock = clock
        self._torch: Any = torch
        self._device = torch.device(name)

    def synchronize(self) -> None:
        """Wait for the device's current stream and all others."""
        self._torch.accelerator.synchronize(self._device)

    def timed(self, function: Callable[[], Value]) -> tuple[Value, float, float]:
        """Run a function between two events on the device's stream, and wait for the second.

        Returns:
            The value; wall seconds until the device was done; seconds between the events, during which the device
            worked or waited for the next launch.
        """
        self.synchronize()
        begin, end = (self._torch.Event(device=self._device.type, enable_timing=True) for _ in range(2))
        start = self._clock()
        begin.record()
        value = function()
        end.record()
        self.synchronize()
        return value, self._clock() - start, begin.elapsed_time(end) / 1e3


def open_device(name: str) -> Device:
    """Return the device of that name, as far as PyTorch drives it in this process.

    A function that calls PyTorch on its own says nothing of its device: where PyTorch is loaded and has an
    accelerator, its stream is waited for.

    Args:
        name: What the model says of itself.
    """
    torch = loaded_torch()
    if torch is None or not hasattr(torch, "accelerator") or not torch.accelerator.is_available():
        return Host(name)
    here = torch.accelerator.current_accelerator()
    if name.partition(":")[0] == here.type:
        return Accelerator(name)
    return Host(name)
