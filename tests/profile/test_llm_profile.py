"""The profile of a model that generates: what is put before it, what is found of it, and how that is told."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carpool.errors import ConfigError, ModelError, OutOfMemory, SchemaError
from carpool.profile.artefact import save_profile
from carpool.profile.llm_artefact import LlmProfile, load_llm_profile
from carpool.profile.llm_limits import parts_of
from carpool.profile.llm_plots import pictures
from carpool.profile.llm_report import write_report
from carpool.profile.llm_step import StepShape, batch_of, steps_to_time
from carpool.profile.llm_tables import more_tables, tables
from carpool.profile.llm_trust import judge
from carpool.profile.options import ProfileOptions
from carpool.profile.worker import OneThread
from carpool.report.progress import SilentProgress
from tests.profile.llm_virtual import TERMS, VirtualRunner, profiled, session, step_s, work_of
from tests.profile.virtual import VirtualTime

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.llm.runner import StepBatch


@pytest.fixture(scope="module")
def found() -> LlmProfile:
    """The profile of a model whose steps take what five terms say."""
    return profiled()


def test_the_cost_that_the_model_has_is_found(found: LlmProfile) -> None:
    """All five terms, from sequences alone, prompts alone, and both."""
    cost = found.step_cost
    assert cost is not None
    assert (cost.step_s, cost.token_s, cost.sequence_s, cost.kv_s, cost.pair_s) == pytest.approx(TERMS, rel=1e-6)
    assert found.decodes
    assert found.prefills
    assert found.mixed
    assert found.complete
    assert found.skipped == ()
    assert found.trust.trusted
    assert found.took_s <= 60


def test_the_scheduler_and_the_model_together_take_what_the_fit_says(found: LlmProfile) -> None:
    """The fit is held against a load of mixed lengths, formed by the scheduler itself."""
    rehearsal = found.rehearsal
    assert rehearsal is not None
    assert rehearsal.num_requests == 48
    assert rehearsal.error_pct == pytest.approx(0.0, abs=0.01)
    assert rehearsal.host_s == pytest.approx(0.0, abs=1e-9)  # in virtual time nothing else takes any
    assert rehearsal.output_tokens > 48
    assert rehearsal.num_steps < rehearsal.output_tokens  # several sequences got a token in one step


@pytest.mark.parametrize("shape", [StepShape(3, 40), StepShape(0, 1, 24, 17), StepShape(2, 16, 5)])
def test_a_step_is_laid_out_as_a_runner_takes_it(shape: StepShape) -> None:
    """Its work is what the shape says, no block is used twice, and every sequence's last token is wanted."""
    runner = VirtualRunner(VirtualTime())
    batch = batch_of(shape, runner, np.random.default_rng(0))
    assert work_of(batch) == shape.work
    used = [
        batch.block_tables[row, : -(-context // runner.block_size)].tolist()
        for row, context in enumerate(batch.contexts.tolist())
    ]
    flat = [block for blocks in used for block in blocks]
    assert len(flat) == len(set(flat)) == shape.num_blocks(runner.block_size)
    assert batch.rows.tolist() == (batch.starts[1:] - 1).tolist()
    assert batch.want == "tokens"


def test_a_step_that_the_cache_does_not_hold_is_told_and_the_others_are_measured() -> None:
    """The largest steps are left out for want of memory, with the blocks that they need."""
    with pytest.raises(OutOfMemory, match=r"4 sequences at 64 needs 16 blocks of the KV cache, which has 8"):
        batch_of(StepShape(4, 64), VirtualRunner(VirtualTime(), num_blocks=8), np.random.default_rng(0))
    found = profiled(num_blocks=1024, cache_bytes=1024 * 368_640)
    assert {one.kind for one in found.skipped} == {"memory"}
    assert max(point.work.kv_read for point in found.decodes) <= 1024 * 16
    assert any("Not measured for want of memory" in sentence for sentence in found.sentences)


def test_no_step_is_longer_than_the_model_takes() -> None:
    """Of a model of 100 tokens, neither sequences nor prompts are longer."""
    steps = steps_to_time((1, 4), (64, 256), (32, 512), 100)
    assert all(end <= 100 for step in steps for _, end in step.pieces())
    assert {step.chunk for step in steps} == {0, 32}
    assert steps_to_time((1,), (256,), (512,), 100)[0] == StepShape(1, 100)


def test_a_model_that_fails_at_some_step_is_measured_at_the_others() -> None:
    """What failed is told, with the error; what never works is an error of its own."""

    def fail(batch: StepBatch) -> None:
        if batch.num_sequences == 32:
            raise ValueError("thirty-two is unlucky")

    found = profiled(fail=fail)
    assert found.failed
    assert any("thirty-two is unlucky" in sentence for sentence in found.sentences)
    assert 32 not in {point.batch_size for point in found.decodes}

    def always(_: StepBatch) -> None:
        raise ValueError("never")

    with pytest.raises(ModelError, match="no step of demo:tiny could be measured: the model raised ValueError: never"):
        profiled(fail=always)


def test_stopped_in_the_middle_it_keeps_what_was_measured() -> None:
    """Ctrl-C after some steps: the profile is incomplete and says so; before any, it is the caller's."""

    class Stopped(SilentProgress):
        """Stopped after so many words."""

        def __init__(self, after: int) -> None:
            self.left = after

        def note(self, text: str) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    with OneThread() as thread:
        found = session(thread, progress=Stopped(100)).run()
        assert not found.complete
        assert found.sentences[0].startswith("It was stopped before its end")
        assert found.rehearsal is None
        with pytest.raises(KeyboardInterrupt):
            session(thread, progress=Stopped(3)).run()


def test_it_says_what_it_means(found: LlmProfile) -> None:
    """The gain of many, the knee, what a piece of a prompt delays, what limits, and what memory holds."""
    said = " ".join(found.sentences)
    for part in (
        "With 256 tokens each in the cache one sequence gets 54 tokens a second, and 128 together 1,506",
        "The knee is at about 104 sequences of 256 tokens",
        "of 128 sequences, whose step takes 85 ms alone, by 15.8 ms with 128 tokens and by 64.3 ms with 512 tokens",
        "What limits 64 sequences at 1024 tokens: KV",
        "Weights take 257 MiB, keys and values 22.5 KiB a token",
        "48 requests",
    ):
        assert part in said


def test_the_parts_of_a_step_are_all_of_it(found: LlmProfile) -> None:
    """Weights, what each step costs besides, arithmetic, keys and values: together the fitted time."""
    for point in found.points:
        parts = parts_of(found, point.work)
        assert parts is not None
        assert parts.total_s == pytest.approx(step_s(point.work), rel=1e-6)
    assert parts_of(replace(found, step_cost=None), found.points[0].work) is None


def test_what_speaks_against_it_is_said(found: LlmProfile) -> None:
    """A busy machine spoils the times; a fit that misses, or a load that takes another time, only the fit."""
    options = ProfileOptions(budget_s=60)
    busy = judge(replace(found, other_load_cores=3.0), options)
    assert (busy.trusted, busy.times_sure) == (False, False)
    assert busy.remedy == ("close other programs and run again, for longer: `carpool profile demo:tiny --budget 120s`")
    assert found.step_cost is not None
    assert found.rehearsal is not None
    missed = judge(replace(found, step_cost=replace(found.step_cost, error_pct=30.0)), options)
    assert (missed.trusted, missed.times_sure) == (False, True)
    assert "the fit misses steps that it has not seen by 30 %" in missed.reasons[0]
    slower = replace(found.rehearsal, in_model_s=2 * found.rehearsal.predicted_s)
    assert "predicts 50 % less time" in judge(replace(found, rehearsal=slower), options).reasons[0]
    assert "too few steps" in judge(replace(found, step_cost=None), options).reasons[0]


def test_tables_and_pictures_show_every_part(found: LlmProfile, tmp_path: Path) -> None:
    """One table a context, then prompts and both; the page holds the pictures and the sentences."""
    titles = [table.title for table in (*tables(found), *more_tables(found))]
    assert len([title for title in titles if "a token for each sequence" in title]) == 3
    assert {"decode", "prefill"} == set(pictures(found))
    written = write_report(found, tmp_path)
    assert {path.name for path in written} == {"profile.json", "report.html", "decode.png", "prefill.png"}
    page = (tmp_path / "report.html").read_text()
    assert re.search(r"What limits 64 sequences at 1024\s+tokens", page)


def test_a_profile_of_little_is_shown_too(found: LlmProfile, tmp_path: Path) -> None:
    """Without a fit, peaks or a rehearsal every table, sentence and picture that is left holds."""
    little = replace(found, step_cost=None, peaks=None, rehearsal=None, points=found.points[:1], complete=False)
    little = replace(little, trust=judge(little, ProfileOptions()))
    assert write_report(little, tmp_path)[0].name == "profile.json"


def test_the_file_reads_back_as_it_was_and_refuses_what_was_changed(found: LlmProfile, tmp_path: Path) -> None:
    """Equal in every part; a figure that can't be, and the profile of another kind of model, are told."""
    path = tmp_path / "profile.json"
    save_profile(path, found)
    assert load_llm_profile(path) == found
    assert found.step_cost is not None
    save_profile(path, replace(found, step_cost=replace(found.step_cost, kv_s=-1.0)))
    with pytest.raises(ConfigError, match=r"the time of a step by the fit is -1; it must be above 0"):
        load_llm_profile(path)
    path.write_text('{"schema_version": 1, "kind": "torch"}')
    with pytest.raises(SchemaError):
        load_llm_profile(path)
