"""Counters of joules, from files and libraries made for the tests."""

from pathlib import Path
from typing import Any

import pytest

from carpool.profile.energy import Rapl, Unreadable, find_meter


def zone(root: Path, name: str, joules: float, *, limit: int = 1_000_000_000) -> Path:
    """One counter as Linux shows it."""
    path = root / name
    path.mkdir(parents=True, exist_ok=True)
    (path / "energy_uj").write_text(f"{round(joules * 1e6)}\n")
    (path / "max_energy_range_uj").write_text(f"{limit}\n")
    return path


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    """Two packages count; the cores within one are already in it."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone(tmp_path, name, 10.0)
    meter = find_meter("cpu", root=tmp_path)
    assert isinstance(meter, Rapl)
    before = meter.joules()
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        zone(tmp_path, name, 12.5)
    assert meter.joules() - before == pytest.approx(5.0)


def test_counter_that_has_run_full_goes_on(tmp_path: Path) -> None:
    """A counter that begins again at 0 has counted on from its limit."""
    zone(tmp_path, "intel-rapl:0", 990.0)
    meter = find_meter("cpu", root=tmp_path)
    assert isinstance(meter, Rapl)
    zone(tmp_path, "intel-rapl:0", 5.0)
    assert meter.joules() == pytest.approx(15.0)


def test_no_counter_says_why(tmp_path: Path) -> None:
    """A machine without counters is told apart from one that refuses."""
    assert "has no intel-rapl counters" in _reason(find_meter("cpu", root=tmp_path))
    broken = zone(tmp_path, "intel-rapl:0", 1.0)
    (broken / "energy_uj").unlink()
    assert "can't be read" in _reason(find_meter("cpu", root=tmp_path))


def test_gpu_counter_is_in_millijoules() -> None:
    """NVML counts millijoules since the driver was loaded."""

    class Library:
        @staticmethod
        def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802 - the library's own name
            return index

        @staticmethod
        def nvmlDeviceGetTotalEnergyConsumption(handle: int) -> int:  # noqa: N802
            return 2500 + handle

    meter = find_meter("cuda:1", load_nvml=Library)
    assert not isinstance(meter, Unreadable)
    assert meter.joules() == pytest.approx(2.501)


def test_missing_library_names_the_package() -> None:
    """Without NVML's bindings the remedy is said."""

    def missing() -> Any:
        raise ModuleNotFoundError("pynvml")

    assert "pip install nvidia-ml-py" in _reason(find_meter("cuda:0", load_nvml=missing))


def test_unknown_device_has_no_counter() -> None:
    """Other accelerators are named in the reason."""
    assert "'mps'" in _reason(find_meter("mps"))


def _reason(found: object) -> str:
    assert isinstance(found, Unreadable)
    return found.reason
