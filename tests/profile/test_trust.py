"""When a profile is not to be trusted, and what it says then: from made-up profiles of disturbed machines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.profile.measure import Samples, Sweep
from carpool.profile.options import ProfileOptions
from carpool.profile.report import build_page, tables
from carpool.profile.shape import Shape
from carpool.profile.work import Work
from tests.profile.made_up import PEAKS, findings, only, parts, rates, time_s, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.profile.artefact import Profile
    from carpool.profile.findings import Findings

STEADY = rates({1: 100, 2: 180, 4: 300, 8: 450, 16: 600, 32: 720})


def busy(found: Findings) -> None:
    """Another program took more than a quarter of the four cores."""
    found.other_load_cores = 1.3


def drifting(found: Findings) -> None:
    """The machine became 74 % faster: the second half of all samples takes 0.26 of the first."""
    for point in found.sweep.points:
        point.samples_s = [point.estimate_s] * 4 + [0.26 * point.estimate_s] * 4


def scattered(found: Findings) -> None:
    """Repeats between 0.4 and 1.6 of the median."""
    found.sweep = timed({one.shape: one.estimate_s for one in found.sweep.points}, spread=0.6)


def beating_the_product(found: Findings) -> None:
    """The model did 1.1 times the FLOP/s of the best matrix product."""
    best = 32 * 64 * 1e6 / time_s(Shape(32, 64))
    found.peaks = replace(PEAKS, flops_per_s=best / 1.1)


def beating_the_copy(found: Findings) -> None:
    """The model moved 2 GB, which no cache holds, at more than the rate of the best copy."""
    found.work = lambda shape: Work(flops=1e6 * shape.num_tokens, num_bytes=2e9)


def contradicting_the_table(found: Findings) -> None:
    """Single calls took 31 ms in the table and 4.3 ms when they were taken apart."""
    found.sweep.points[0].samples_s = [31e-3] * 8


def without_form(found: Findings) -> None:
    """Times that go up and down with the batch size: no form fits, however sure they are."""
    found.parts = []
    found.sweep = timed({**rates({1: 100, 2: 41, 4: 83, 8: 300, 16: 290, 32: 180}, 16), **rates({1: 30, 2: 60}, 64)})


def mispredicting_the_mix(found: Findings) -> None:
    """Items as they come took more than twice what the fit predicts."""
    found.mix = [replace(point, predicted_error_pct=60.0) for point in found.mix]


def judged(change: Callable[[Findings], None]) -> Profile:
    """The profile of everything, changed."""
    found = findings()
    found.cost_model = None
    change(found)
    return found.profile()


def test_quiet_profile_is_trusted() -> None:
    """Nothing speaks against a profile whose parts agree, and it says nothing of it."""
    profile = judged(lambda _: None)
    assert (profile.trust.trusted, profile.trust.times_sure, profile.trust.reasons) == (True, True, ())
    assert not any("trust" in sentence for sentence in profile.sentences)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (busy, "other programs used 1.3 of 4 cores while it was timed"),
        (drifting, "the machine became 74% faster while it was timed"),
        (scattered, "half of the times are known to no better than"),
        (beating_the_product, "the model reached 110% of the FLOP/s of the machine's best matrix product"),
        (beating_the_copy, "of the bytes/s of the machine's best copy"),
        (
            contradicting_the_table,
            "batches of 1 took 31 ms when they were timed and 4.32 ms when they were taken apart",
        ),
    ],
)
def test_disturbed_machine_is_told_first_and_verdicts_are_withheld(
    change: Callable[[Findings], None], reason: str
) -> None:
    """Each sign alone is enough: it opens what is said, with the remedy, and no knee, bound or gain is claimed."""
    profile = judged(change)
    assert not profile.trust.trusted
    assert not profile.trust.times_sure
    assert any(reason in one for one in profile.trust.reasons)
    assert profile.sentences[0].startswith("Do not trust this profile: ")
    assert reason in profile.sentences[0]
    assert profile.sentences[1] == (
        "To mend that, close other programs and run again, for longer: "
        "`carpool profile demo:model --batch-sizes 1,2,4,8,16,32,64 --budget 90s`."
    )
    assert profile.sentences[2].startswith("No verdict is given on whether batching pays. At face value")
    assert profile.bound is None
    said = " ".join(profile.sentences)
    assert not any(
        word in said
        for word in ("buy", "limits it", "little to gain", "predicts shapes", "Overhead", "sorted by length (")
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_form, "the fit misses shapes that it has not seen by"),
        (mispredicting_the_mix, "what the fit predicts of items as they come is off by 60 %"),
    ],
)
def test_bad_fit_leaves_what_was_measured(change: Callable[[Findings], None], reason: str) -> None:
    """Sure times are told as such; only what the fit estimates is held back, and more batch sizes are asked for."""
    profile = judged(change)
    assert not profile.trust.trusted
    assert profile.trust.times_sure
    assert profile.sentences[0].startswith(
        "Do not trust what the fit predicts, though the times that were measured are"
    )
    assert reason in profile.sentences[0]
    assert "--batch-sizes 1,2,3,4,6,8,12,16,24,32 --budget 90s`" in profile.sentences[1]
    assert profile.sentences[2].startswith("Of the batch sizes that were measured")
    assert not any("By the fit" in sentence or "predicts shapes" in sentence for sentence in profile.sentences)
    assert not any("The knee" in table.title for table in tables(profile))


def test_page_begins_with_the_doubt_and_claims_nothing() -> None:
    """The lead, the first box with all reasons and the remedy, and no word of paying; pictures name no knee."""

    def doubly(found: Findings) -> None:
        busy(found)
        drifting(found)

    html = build_page(judged(doubly)).to_html()
    assert '<p class="lead">Do not trust this profile.</p>' in html
    body = html[html.index("<main>") :]
    assert body.index("Not to be trusted") < body.index("Do not rely on these figures.") < body.index("<table")
    assert (
        body.index("Other programs used 1.3 of 4 cores") < body.index("74% faster") < body.index("close other programs")
    )
    assert not any(word in html for word in ("Batching pays", "It pays", "levels off", "Limited by", "Knee", "knee"))
    assert "Throughput: do not trust it" in html


def test_page_of_a_bad_fit_concludes_from_what_was_measured() -> None:
    """Batches of 8 are the fastest of those measured; the verdict says so and calls it measured."""
    html = build_page(judged(without_form)).to_html()
    assert "Do not rely on what the fit predicts." in html
    assert "Batching pays: batches of 8 have 3.00 times the throughput, as measured." in html


def test_data_in_caches_may_move_faster_than_a_copy() -> None:
    """Four megabytes at six times the rate of the largest copy is no sign of a disturbance: the table says why."""
    profile = judged(lambda found: setattr(found, "peaks", replace(PEAKS, bytes_per_s=1.5e8)))
    assert profile.trust.trusted
    assert max(point.mbu or 0.0 for point in profile.points) > 5.0
    assert "An MBU above 100 % is of data that stay in caches" in next(iter(tables(profile))).to_text()


def test_accelerator_may_pass_its_matrix_product() -> None:
    """Convolutions there may use faster arithmetic than the product that the peak was measured with."""

    def on_device(found: Findings) -> None:
        beating_the_product(found)
        found.machine = replace(found.machine, device="cuda")

    assert judged(on_device).trust.trusted


def test_command_to_run_again_is_one_that_a_shell_takes() -> None:
    """A path with a space is quoted; a live object has no name there, so its options are named instead."""
    named, live = only(STEADY, busy), only(STEADY, busy)
    named.info = replace(named.info, target="my models/a.py:run")
    named.options = live.options = ProfileOptions()
    assert "`carpool profile 'my models/a.py:run' --budget 90s`" in named.profile().trust.remedy
    live.info = replace(live.info, target="Doubler")
    assert "`ProfileOptions(budget_s=90)`" in live.profile().trust.remedy


def test_command_to_run_again_repeats_what_was_asked_for() -> None:
    """Whatever is not as it is by default, the folder too; a live object's options are written as Python."""
    found = only(STEADY, busy)
    found.options = ProfileOptions(
        batch_sizes=(1, 8), lengths=(16, 32), device="cpu", num_threads=1, probe_memory=False, out=Path("my out")
    )
    assert found.profile().trust.remedy.endswith(
        " --batch-sizes 1,8 --lengths 16,32 --device cpu --threads 1 --budget 90s --no-memory --out 'my out'`"
    )
    found.info = replace(found.info, target="Doubler")
    assert found.profile().trust.remedy.endswith(
        "`ProfileOptions(batch_sizes=(1, 8), lengths=(16, 32), device='cpu', num_threads=1, budget_s=90, "
        "probe_memory=False)`"
    )


def test_doubted_knee_that_was_not_measured_is_not_taken_apart() -> None:
    """A call of 7 items, a size that nobody asked for, is left out where the fit that names it is not to be trusted."""

    def at_seven(found: Findings) -> None:
        found.parts = [parts(1), parts(7), parts(32)]

    def busy_at_seven(found: Findings) -> None:
        at_seven(found)
        busy(found)

    assert [one.batch_size for one in judged(at_seven).breakdown] == [1, 7, 32]
    assert [one.batch_size for one in judged(busy_at_seven).breakdown] == [1, 32]


def test_small_disturbances_are_mentioned_and_no_more() -> None:
    """Half a core of four and a drift of 8 % stand at the end of a profile that keeps its verdict."""

    def little(found: Findings) -> None:
        found.other_load_cores = 0.5
        for point in found.sweep.points:
            point.samples_s = [point.estimate_s] * 4 + [1.08 * point.estimate_s] * 4

    profile = judged(little)
    assert profile.trust.trusted
    said = " ".join(profile.sentences)
    assert "Other programs used 0.5 of 4 cores" in said
    assert "The machine became 8% slower while it was timed: sizes, which took turns, still compare" in said


@given(load=st.floats(0.0, 4.0), drift=st.floats(0.2, 4.0), single_s=st.floats(1e-3, 0.1))
def test_utilisation_never_passes_the_peak_and_doubt_always_has_a_remedy(
    load: float, drift: float, single_s: float
) -> None:
    """However disturbed: no share of the peak FLOP/s above 1; reasons and a remedy exactly where it is not trusted."""
    found = findings()
    found.cost_model = None
    found.other_load_cores = load
    found.sweep = Sweep(
        points=[
            Samples(one.shape, 1.0, 5, samples_s=[one.estimate_s] * 3 + [drift * one.estimate_s] * 3)
            for one in found.sweep.points
        ]
    )
    found.sweep.points[0].samples_s = [single_s] * 6
    found.parts = [parts(1), parts(32)]
    profile = found.profile()
    assert max(point.mfu or 0.0 for point in profile.points) <= 1.0
    assert profile.bound is None or (profile.bound.mfu or 0.0) <= 1.0
    assert profile.trust.trusted == (not profile.trust.reasons) == (not profile.trust.remedy)
    assert profile.trust.times_sure or profile.bound is None
