"""What a profile says: in words, tables, pictures and on a page, from figures made up here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import SchemaError
from carpool.models.model import ModelInfo
from carpool.profile.artefact import EnergyFound, MemoryFound, Profile, load_profile, save_profile
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
from carpool.profile.report import build_page, more_tables, tables, write_report
from carpool.profile.shape import Shape
from carpool.profile.work import Work

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.fixture
def profile() -> Profile:
    """The profile of those findings."""
    return findings().profile()


def test_figures_follow_from_times(profile: Profile) -> None:
    """Throughput, speed-up, utilisation, memory and energy of a point are those of its time and work."""
    point = next(one for one in profile.points if (one.batch_size, one.length) == (32, 16))
    assert point.items_per_s == pytest.approx(32 / time_s(Shape(32, 16)))
    assert point.speedup == pytest.approx(32 * time_s(Shape(1, 16)) / time_s(Shape(32, 16)))
    assert point.mfu == pytest.approx(1e6 * 512 / time_s(Shape(32, 16)) / 1e12)
    assert point.mbu == pytest.approx(4e6 / time_s(Shape(32, 16)) / 2e10)
    assert point.overhead_share == pytest.approx(4e-3 / time_s(Shape(32, 16)), rel=0.02)
    assert point.memory_bytes == 10**8 + 10**5 * 512
    assert point.joules_per_item == pytest.approx(0.01)
    assert profile.bound is not None
    assert profile.bound.kind == "overhead"


def test_peak_is_never_below_what_the_model_reached() -> None:
    """On a busy machine a product measured apart may be slower than the model's own: that is then the peak."""
    found = findings()
    found.peaks = replace(PEAKS, flops_per_s=1e9)
    profile = found.profile()
    assert max(point.mfu or 0.0 for point in profile.points) == pytest.approx(1.0)
    assert profile.peaks is not None
    assert profile.peaks.matrix_size == 0


def test_sentences_hold_the_numbers(profile: Profile) -> None:
    """What larger batches buy and cost, what limits, what padding takes, what does not fit, what it costs in joules."""
    said = "\n".join(profile.sentences)
    knee = profile.knee
    assert knee is not None
    for part in (
        f"Batches of {knee.batch_size} buy {knee.speedup:.2g} times the throughput of single items of 16 tokens",
        "and cost latency: a call takes",
        "predicts shapes it has not seen with a median error of 0.",
        "Overhead (host, transfers, launches) was 4 ms an item at batch 1, 93% of its time",
        "padding then wastes 50% of the tokens in batches of 8",
        "Does not fit in memory: 64 x 64 and larger (the process was killed (SIGKILL)).",
        "An item takes 0.1 J at batch 1 and 0.01 J at batch 32 (RAPL (processor packages)).",
        "Batching does not change results",
        "Not measured for want of time: 1 of 14 shapes, from 64 x 64 up",
    ):
        assert part in said


def test_tables_name_units_and_mark_the_knee(profile: Profile) -> None:
    """Every table can be written as text; the tables of points come first, one for each length."""
    texts = [table.to_text() for table in (*tables(profile), *more_tables(profile))]
    assert "model, items of 16 tokens" in texts[0]
    assert "latency (ms)" in texts[0]
    assert "Not measured: batch 64. Skipped: would take 9 s" in texts[1]
    assert any("launch, allocate" in text for text in texts)
    assert any("sorted (items/s)" in text for text in texts)
    assert any("killed (SIGKILL)" in text for text in texts)


def test_everything_is_written_and_the_page_needs_nothing_else(profile: Profile, tmp_path: Path) -> None:
    """Five pictures, the page with them inside, and the profile, which reads back equal."""
    written = write_report(profile, tmp_path)
    names = {"profile.json", "report.html", "speed.png", "memory.png", "overhead.png", "mix.png"}
    assert {path.name for path in written} == names
    assert all(path.stat().st_size > 1000 for path in written)
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert load_profile(tmp_path / "profile.json") == profile


@pytest.mark.parametrize(
    "without",
    [
        {"peaks": None, "work": lambda _: Work()},
        {"parts": []},
        {"mix": []},
        {"quality": None},
        {"memory": MemoryFound(unavailable="switched off")},
        {"sweep": Sweep(points=[Samples(Shape(1, 16), 1e-2, 5, samples_s=[1e-2] * 3)])},
        {"complete": False, "parts": [], "mix": [], "quality": None, "peaks": None},
        {"complete": False, "parts": [], "mix": [], "quality": None, "peaks": None, "sweep": Sweep()},
    ],
)
def test_report_of_a_part_is_made_of_what_there_is(without: dict[str, Any], tmp_path: Path) -> None:
    """Whatever is missing, the rest is written, read back and shown."""
    found = findings()
    for name, value in without.items():
        setattr(found, name, value)
    profile = found.profile()
    save_profile(tmp_path / "profile.json", profile)
    assert load_profile(tmp_path / "profile.json") == profile
    assert build_page(profile).to_html()


def test_unknown_version_is_refused_with_the_known_ones(profile: Profile, tmp_path: Path) -> None:
    """A file of another version says which versions can be read."""
    path = tmp_path / "profile.json"
    save_profile(path, profile)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(SchemaError, match="schema_version is 99; known versions: 1"):
        load_profile(path)
