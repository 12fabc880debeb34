"""A profile made up here: four ms a call and 0.02 ms a token, and everything else that a profile can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carpool.models.model import ModelInfo
from carpool.profile.artefact import EnergyFound, MemoryFound
from carpool.profile.breakdown import CallParts
from carpool.profile.calls import Energy
from carpool.profile.findings import Findings
from carpool.profile.machine import Machine
from carpool.profile.measure import Samples, Sweep
from carpool.profile.memory import Probe
from carpool.profile.mix import MixPoint
from carpool.profile.options import ProfileOptions
from carpool.profile.peaks import MeasuredPeaks
from carpool.profile.quality import compare_batches
from carpool.profile.shape import Shape
from carpool.profile.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIZES, LENGTHS = (1, 2, 4, 8, 16, 32), (16, 64)
MACHINE = Machine(
    device="cpu",
    device_name="A Processor",
    num_cores=4,
    num_threads=4,
    memory_bytes=8 * 1024**3,
    dtype="float32",
    platform="Linux x86_64",
    versions={"carpool": "0.1.0", "python": "3.11.0"},
)
PEAKS = MeasuredPeaks(
    flops_per_s=1e12,
    matrix_size=2048,
    bytes_per_s=2e10,
    to_device_bytes_per_s=None,
    to_host_bytes_per_s=None,
    dtype="float32",
    library="torch",
)


def time_s(shape: Shape) -> float:
    """Four ms a call and 0.02 ms a token."""
    return 4e-3 + 2e-5 * shape.num_tokens


def parts(batch_size: int) -> CallParts:
    """A call of which 4 ms are overhead."""
    return CallParts(
        batch_size=batch_size,
        length=16,
        admit_s=0.0,
        collate_s=1e-3,
        to_device_s=0.0,
        launch_s=3e-3,
        compute_s=2e-5 * 16 * batch_size,
        to_host_s=0.0,
        finish_s=0.0,
        elsewhere_s=0.0,
        launch_is="smallest call",
    )


def findings() -> Findings:
    """Everything that a profile can hold."""
    found = Findings(
        info=ModelInfo(name="model", kind="encoder", target="demo:model", num_parameters=1000),
        machine=MACHINE,
        options=ProfileOptions(batch_sizes=(*SIZES, 64)),
        lengths=LENGTHS,
        typical_length=16,
        peaks=PEAKS,
        complete=True,
    )
    shapes = [Shape(size, length) for size in SIZES for length in LENGTHS]
    found.sweep = Sweep(points=[Samples(one, time_s(one), 5, samples_s=[time_s(one)] * 8) for one in shapes])
    found.sweep.drop(Shape(64, 64), "budget", "skipped: would take 9 s, and 1 s of the budget was left; raise --budget")
    found.work = lambda shape: Work(flops=1e6 * shape.num_tokens, num_bytes=4e6)
    found.memory = MemoryFound(
        what="peak of the process",
        limit_bytes=10**9,
        limit_source="as asked for",
        probes=(
            *(
                Probe(batch_size=b, length=n, outcome="fits", peak_bytes=10**8 + 10**5 * b * n)
                for b in (1, 8, 32)
                for n in LENGTHS
            ),
            Probe(batch_size=64, length=64, outcome="does not fit", reason="the process was killed (SIGKILL)"),
        ),
    )
    found.fit()
    knee = found.knee_at(16)
    found.parts = [parts(1), parts(knee.batch_size if knee else 32), parts(32)]
    found.cost_model = None
    found.mix = [
        MixPoint(
            batch_size=size,
            num_items=64,
            arrival_items_per_s=100.0 * size**0.2,
            sorted_items_per_s=100.0 * size**0.4,
            arrival_padding_waste=0.5,
            sorted_padding_waste=0.1,
            predicted_error_pct=4.0,
        )
        for size in (1, 8)
    ]
    found.energy = EnergyFound(source="RAPL (processor packages)")
    found.energy_counts = {Shape(1, 16): Energy(1.0, 1.0, 10), Shape(32, 16): Energy(1.0, 1.0, 100)}
    found.quality = compare_batches(lambda batch: [np.ones(3)] * len(batch), [1, 2], (1, 2), dtype="float32")
    return found


def timed(times_s: Mapping[Shape, float], *, spread: float = 0.0) -> Sweep:
    """A sweep of given medians, its samples spread evenly by a share on either side."""
    around = (-spread, -spread / 2, 0.0, 0.0, 0.0, spread / 2, spread)
    return Sweep(
        points=[
            Samples(shape, time_s, 5, samples_s=[time_s * (1.0 + off) for off in around])
            for shape, time_s in times_s.items()
        ]
    )


def rates(per_s: Mapping[int, float], length: int = 1) -> dict[Shape, float]:
    """The seconds of batches that run at so many items a second, by batch size."""
    return {Shape(size, length): size / rate for size, rate in per_s.items()}


def only(times_s: Mapping[Shape, float], change: Callable[[Findings], None] = lambda _: None) -> Findings:
    """Findings of these times and nothing else; their typical length is the first."""
    lengths = tuple(sorted({shape.length for shape in times_s}))
    found = Findings(
        info=ModelInfo(name="model", kind="function", target="model.py:run"),
        machine=MACHINE,
        options=ProfileOptions(batch_sizes=tuple(sorted({shape.batch_size for shape in times_s}))),
        lengths=lengths,
        typical_length=lengths[0],
        sweep=timed(times_s),
        memory=MemoryFound(unavailable="switched off"),
        complete=True,
    )
    change(found)
    return found
