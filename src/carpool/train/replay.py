"""Run the same forward passes again: with the same random numbers, and with the model's buffers as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from torch import nn


class Replay:
    """Lets each forward pass of a window start where it started the first time.

    Random numbers are torch's own, of the CPU and of the devices that the models are on: what a model draws from
    elsewhere, such as Python's `random`, differs from pass to pass.

    Args:
        modules: whose passes are repeated.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        modules = list(modules)
        tensors = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        self._devices = {tensor.device for tensor in tensors if tensor.device.type not in {"cpu", "meta"}}
        buffers = {id(buffer): buffer for module in modules for buffer in module.buffers()}
        self._buffers = [(buffer, buffer.detach().clone()) for buffer in buffers.values()]
        self._states: dict[Hashable, dict[torch.device, torch.Tensor]] = {}

    def at(self, key: Hashable) -> None:
        """Go to where the random numbers stood at the first call with this key, which only remembers that.

        Args:
            key: names a forward pass.
        """
        states = self._states.get(key)
        if states is None:
            self._states[key] = self._read()
            return
        for device, state in states.items():
            if device.type == "cpu":
                torch.set_rng_state(state)
            else:
                _generator_of(device).set_rng_state(state, *_named(device))

    def rewind(self) -> None:
        """Put the buffers back, and forget the weights that autocast keeps: those made without gradients have none."""
        torch.clear_autocast_cache()
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)

    def _read(self) -> dict[torch.device, torch.Tensor]:
        states = {device: _generator_of(device).get_rng_state(*_named(device)) for device in self._devices}
        return {torch.device("cpu"): torch.get_rng_state(), **states}


def _generator_of(device: torch.device) -> Any:
    return torch.get_device_module(device)


def _named(device: torch.device) -> tuple[torch.device, ...]:
    return () if device.type == "mps" else (device,)  # torch.mps has one device, and does not ask which
