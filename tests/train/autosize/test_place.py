"""Where sizes are tried, and how much memory they may take there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from carpool.errors import ConfigError
from carpool.train.autosize.place import accelerator_limit, open_place
from carpool.train.autosize.process import FreshProcesses

CUDA = torch.device("cuda:0")
SETUPS = Path(__file__).with_name("setups.py")


def test_without_an_accelerator_sizes_are_tried_in_processes_of_their_own() -> None:
    """Within what was asked for, or what the machine leaves to as many as share it."""
    place = open_place(f"{SETUPS}:small", device=None, given_bytes=1 << 20, timeout_s=1.0)
    assert isinstance(place.prober, FreshProcesses)
    assert (place.limit.limit_bytes, place.limit.source) == (1 << 20, "as asked for")
    shared = open_place(f"{SETUPS}:small", device="cpu", given_bytes=None, timeout_s=1.0, num_ranks=4, num_here=4)
    assert "shared by 4 processes" in shared.limit.source


def test_what_the_model_takes_of_an_accelerator_is_not_held_against_it() -> None:
    """The peak counts it, and so the limit must."""
    accelerator = SimpleNamespace(get_memory_info=lambda _: (600, 1000), memory_reserved=lambda _: 400)
    assert accelerator_limit(accelerator, CUDA, None).limit_bytes == 950
    assert accelerator_limit(accelerator, CUDA, None).source == "95% of the memory free on cuda:0"
    assert accelerator_limit(accelerator, CUDA, 960).limit_bytes == 950
    assert accelerator_limit(accelerator, CUDA, 100).source == "as asked for"


def test_a_device_whose_memory_is_unknown_is_refused() -> None:
    """An older PyTorch has no such question, and some accelerators no such answer."""
    with pytest.raises(ConfigError, match=r"does not tell the memory of cuda:0 \(.*get_memory_info.*\): choose the"):
        accelerator_limit(SimpleNamespace(), CUDA, None)
