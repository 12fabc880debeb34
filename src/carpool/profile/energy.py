"""Joules, where the machine counts them: NVML for NVIDIA GPUs, RAPL for the processor's package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RAPL_ROOT = Path("/sys/class/powercap")
# A package's counter is updated about every millisecond; over less time than this it says too little.
LEAST_SECONDS = 0.05


class Meter(Protocol):
    """Something that counts joules."""

    source: str

    def joules(self) -> float:
        """Return the joules counted since some origin; it never falls."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why joules cannot be counted here."""

    reason: str


class Rapl:
    """The processor packages' energy counters, summed; each begins again at 0 when it has run full.

    Args:
        zones: Directories with `energy_uj` and `max_energy_range_uj`.
    """

    source = "RAPL (processor packages)"

    def __init__(self, zones: Sequence[Path]) -> None:
        self._zones = list(zones)
        self._ranges = [_microjoules(zone / "max_energy_range_uj") for zone in self._zones]
        self._last = [_microjoules(zone / "energy_uj") for zone in self._zones]
        self._total = 0

    def joules(self) -> float:
        """Read all counters."""
        for index, zone in enumerate(self._zones):
            now = _microjoules(zone / "energy_uj")
            step = now - self._last[index]
            self._total += step if step >= 0 else step + self._ranges[index]
            self._last[index] = now
        return self._total / 1e6


def _microjoules(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


class Nvml:
    """The energy counter of one NVIDIA GPU.

    Args:
        library: The module `pynvml`, initialised.
        index: Which GPU.
    """

    source = "NVML (the GPU's board)"

    def __init__(self, library: Any, index: int) -> None:
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByIndex(index)
        self.joules()

    def joules(self) -> float:
        """Read the counter, which is in millijoules since the driver was loaded."""
        return float(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3


def find_meter(
    device: str, *, root: Path = RAPL_ROOT, load_nvml: Callable[[], Any] | None = None
) -> Meter | Unreadable:
    """Return what counts the joules of a device, or why nothing does.

    Args:
        device: As PyTorch names it.
        root: Where Linux shows energy counters.
        load_nvml: Returns the module `pynvml`, initialised.
    """
    kind, _, index = device.partition(":")
    if kind == "cuda":
        return _find_nvml(int(index or 0), load_nvml or _load_nvml)
    if kind == "cpu":
        return _find_rapl(root)
    return Unreadable(f"no counter of joules is known for the device {device!r}")


def _find_rapl(root: Path) -> Meter | Unreadable:
    # AMD's counters appear under the same name; intel-rapl:0 is package 0, intel-rapl:0:1 a part of it.
    zones = sorted(zone for zone in root.glob("intel-rapl:*") if zone.name.count(":") == 1)
    if not zones:
        return Unreadable(f"{root} has no intel-rapl counters: usual in a virtual machine, and outside Linux")
    try:
        return Rapl(zones)
    except OSError as error:
        remedy = f"let this user read it, such as `sudo chmod a+r {root}/intel-rapl:*/energy_uj`"
        return Unreadable(f"{zones[0] / 'energy_uj'} can't be read ({error.strerror}): {remedy}")
    except ValueError:
        return Unreadable(f"{zones[0] / 'energy_uj'} holds no number")


def _load_nvml() -> Any:
    import importlib

    library = importlib.import_module("pynvml")
    library.nvmlInit()
    return library


def _find_nvml(index: int, load_nvml: Callable[[], Any]) -> Meter | Unreadable:
    try:
        return Nvml(load_nvml(), index)
    except ModuleNotFoundError:
        return Unreadable("the package nvidia-ml-py is not installed: run `pip install nvidia-ml-py`")
    except Exception as error:  # noqa: BLE001 - NVML's errors share no base class that is known without it
        return Unreadable(f"NVML does not count this GPU's energy: {error}")
