"""The other process: loads the model, then runs the shapes that it is asked for and answers with their peaks of memory.

One JSON document a line, in on standard input and out on what was standard output; the model's own prints go nowhere.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError
from carpool.models.loaded_torch import loaded_torch
from carpool.models.target import load_target, wrap
from carpool.profile.items import of_length
from carpool.profile.memory import Answer
from carpool.runtime.execute import is_out_of_memory, run_checked

if TYPE_CHECKING:
    from carpool.models.model import Model

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    """Serve until standard input closes."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    volunteer()
    hello = json.loads(sys.stdin.readline())
    sys.path[:] = hello["sys_path"]
    try:
        model = _load(hello)
        answer = Answer()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent is to say it
        _reply(answers, Answer(error=_said(error), died=True))
        return
    _reply(answers, answer)
    shapes = Shapes(model, seed=hello["seed"], most_items=hello["most_items"])
    for line in sys.stdin:
        wanted = json.loads(line)
        _reply(answers, shapes.run(wanted["batch_size"], wanted["length"]))


def volunteer() -> None:
    """Ask Linux to end this process, and none of the user's, when the machine runs out of memory."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:  # not Linux, or not allowed: the parent watches all the same
        return


def _load(hello: dict[str, Any]) -> Model:
    options = {name: hello[name] for name in ("device", "dtype", "num_threads")}
    if hello["pickled"]:
        model = wrap(pickle.loads(base64.b64decode(hello["pickled"])), **options)  # noqa: S301 - from our own parent
    else:
        model = load_target(hello["target"], **options)
    model.load()
    return model


class Shapes:
    """Runs batches and measures the peak of each.

    Args:
        model: A loaded model.
        seed: Which examples to take.
        most_items: Items of the largest batch.
    """

    def __init__(self, model: Model, *, seed: int, most_items: int) -> None:
        self._model, self._seed, self._most_items = model, seed, most_items
        self._payloads: dict[int, list[Any]] = {}

    def run(self, batch_size: int, length: int) -> Answer:
        """Run one batch once."""
        try:
            payloads = self._take(batch_size, length)
            peak = open_peak(self._model.info.device)
            start = time.perf_counter()
            run_checked(self._model.run, payloads, batch_size)
            return Answer(peak_bytes=peak.read(), seconds=time.perf_counter() - start)
        except Exception as error:  # noqa: BLE001 - an answer, not a fault
            return Answer(error=_said(error), out_of_memory=is_out_of_memory(error))

    def _take(self, batch_size: int, length: int) -> list[Any]:
        if length not in self._payloads:
            self._payloads[length] = of_length(self._model, length, most_items=self._most_items, seed=self._seed)
        payloads = self._payloads[length]
        return [payloads[index % len(payloads)] for index in range(batch_size)]


class HostPeak:
    """The most memory that this process holds from now on; since its start where the system can't forget."""

    def __init__(self) -> None:
        try:
            _CLEAR.write_text("5", encoding="ascii")  # Linux: VmHWM begins again
        except OSError:
            return

    def read(self) -> int:
        """Return the bytes."""
        try:
            line = next(row for row in _STATUS.read_text(encoding="ascii").splitlines() if row.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        except (OSError, StopIteration):
            return _most_ever()


def _most_ever() -> int:
    """Return the peak since the process began, where there is no `/proc`."""
    import psutil

    info = psutil.Process().memory_info()
    on_windows: int | None = getattr(info, "peak_wset", None)
    if on_windows is not None:
        return on_windows
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


class DevicePeak:
    """The most that PyTorch's allocator holds on an accelerator from now on, cached blocks included.

    Args:
        device: As PyTorch names it.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._torch: Any = torch
        self._device = torch.device(device)
        torch.accelerator.synchronize(self._device)
        torch.accelerator.empty_cache()
        torch.accelerator.reset_peak_memory_stats(self._device)

    def read(self) -> int:
        """Return the bytes."""
        self._torch.accelerator.synchronize(self._device)
        return int(self._torch.accelerator.max_memory_reserved(self._device))


def open_peak(device: str) -> HostPeak | DevicePeak:
    """Begin to measure the peak of the memory that a model of this device computes in."""
    torch = loaded_torch()
    if torch is None or device == "cpu" or not hasattr(torch.accelerator, "max_memory_reserved"):
        return HostPeak()
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return DevicePeak(device) if here is not None and device.partition(":")[0] == here.type else HostPeak()


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, CarpoolError) else f"{type(error).__name__}: {error}"


def _reply(stream: Any, answer: Answer) -> None:
    stream.write(json.dumps(asdict(answer)) + "\n")
    stream.flush()
