"""What a profile says: in words, tables, pictures and on a page, from figures made up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from carpool.errors import ConfigError, ModelError, SchemaError
from carpool.profile.artefact import MemoryFound, Profile, load_profile, save_profile
from carpool.profile.measure import Samples, Sweep
from carpool.profile.quality import compare_batches
from carpool.profile.report import build_page, more_tables, tables, write_report
from carpool.profile.shape import Shape
from carpool.profile.work import Work
from tests.profile.made_up import PEAKS, SIZES, findings, time_s

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
        f"By the fit, batches of {knee.batch_size}, a size that was not measured, would buy about",
        f"about {knee.speedup:.2g} times the throughput of single items of 16 tokens",
        "and cost latency: a call would take about 12.6 ms instead of 4.32 ms",
        "predicts shapes it has not seen with a median error of 0.",
        "Overhead (host, transfers, launches) was 4 ms an item at batch 1, 93% of its time",
        "padding then wastes 50% of the tokens in batches of 8",
        "Does not fit in memory: 64 x 64 and larger (the process was killed (SIGKILL)).",
        "An item takes 0.1 J at batch 1 and 0.01 J at batch 32 (RAPL (processor packages)).",
        "and is 0.148 ms an item at batch 27",
        "Memory: 96.9 MiB at 1 x 16 to 291 MiB at 32 x 64 (peak of the process; 954 MiB allowed",
        "Batching does not change results at batch size 2: outputs differ",
        "Whether it does at batch sizes 4, 8, 16 and 32, timed too, was not checked",
        "Not measured for want of time: 1 of 14 shapes, from 64 x 64 up",
    ):
        assert part in said


def test_of_a_model_that_does_not_pad_nothing_is_said_of_padding() -> None:
    """What is wasted is what rounding adds."""
    found = findings()
    found.ragged = True
    (said,) = (one for one in found.profile().sentences if one.startswith("Items as they come"))
    assert "rounding up the tokens of a batch, which is not padded, then wastes 50% of the tokens" in said
    assert not any("padding takes" in one for one in found.profile().sentences)


@pytest.mark.parametrize(
    ("fails_at", "said"),
    [
        (0, "Batching does not change results at batch sizes 2, 4, 8, 16 and 32: outputs differ"),
        (8, "Batching does not change results at batch sizes 2, 4, 16 and 32: outputs differ"),
        (8, "Whether batching changes results could not be told at batch size 8: no room."),
        (1, "Whether batching changes results could not be told: no room."),
    ],
)
def test_only_sizes_that_were_compared_are_vouched_for(fails_at: int, said: str) -> None:
    """Of the others it is said that nobody knows, and why."""

    def run(batch: list[int]) -> list[int]:
        if len(batch) == fails_at:
            raise ModelError("no room")
        return [2 * item for item in batch]

    found = findings()
    found.quality = compare_batches(run, [1, 2, 3], SIZES, dtype="float32")
    sentences = found.profile().sentences
    assert any(sentence.startswith(said) for sentence in sentences)
    assert not any("was not checked" in sentence for sentence in sentences)


def test_short_time_leaves_all_sizes_unchecked_and_says_so() -> None:
    """Where not one batch could be compared, no result is called unchanged."""
    found = findings()
    found.quality = compare_batches(lambda batch: batch, [1, 2], SIZES, dtype="float32", may_go_on=lambda _: False)
    said = " ".join(found.profile().sentences)
    assert "Whether batching changes results at batch sizes 2, 4, 8, 16 and 32, timed, was not checked" in said
    assert "does not change" not in said


def test_tables_name_units_and_mark_the_knee(profile: Profile) -> None:
    """Every table can be written as text; the tables of points come first, one for each length."""
    texts = [table.to_text() for table in (*tables(profile), *more_tables(profile))]
    assert "model, items of 16 tokens" in texts[0]
    assert "latency (ms)" in texts[0]
    assert "Not measured: batch 64. Skipped: would take 9 s" in texts[1]
    assert any("launch, allocate" in text for text in texts)
    assert any("sorted (items/s)" in text for text in texts)
    (knees,) = [text for text in texts if text.startswith("The knee")]
    assert knees.count("estimated") == 2
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda found: {"points": (replace(found.points[0], time_s=0.0), *found.points[1:])},
            "time_s of .* is 0; it must",
        ),
        (lambda _: {"drift": -1.0}, "drift is -1; it must be above -1 and finite"),
        (lambda _: {"points": ()}, "number of points behind the cost model is 0; it must be above 0"),
    ],
)
def test_figures_that_cannot_be_are_refused(
    change: Callable[[Profile], dict[str, Any]], message: str, profile: Profile, tmp_path: Path
) -> None:
    """Somebody changed the file: nothing is planned from it."""
    path = tmp_path / "profile.json"
    save_profile(path, replace(profile, **change(profile)))
    with pytest.raises(ConfigError, match=message):
        load_profile(path)


def test_unknown_version_is_refused_with_the_known_ones(profile: Profile, tmp_path: Path) -> None:
    """A file of another version says which versions can be read."""
    path = tmp_path / "profile.json"
    save_profile(path, profile)
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(SchemaError, match="schema_version is 99; known versions: 1"):
        load_profile(path)
