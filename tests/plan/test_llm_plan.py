"""The plan for a model that generates: its figures, its search, its table of other ways, and its words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.core.step_policy import StepPolicy
from carpool.errors import ConfigError
from carpool.plan.llm_figures import LlmObjective, figures_of_llm, read_llm_objectives
from carpool.plan.llm_page import write_pages
from carpool.plan.llm_plan import LlmPlan, LlmPlanOptions, make_llm_plan, windows
from carpool.plan.llm_predict import LlmSubject
from carpool.plan.llm_search import capacity, search_llm, sizes_of
from carpool.plan.llm_sentences import LlmStory, doubts_about, sentences_about
from carpool.plan.llm_setup import LlmSetup
from carpool.plan.llm_simulate import LlmRun
from carpool.plan.llm_tables import memory_table, prediction_table, tried_table, what_if_table
from carpool.plan.llm_what_if import what_if_llm
from carpool.plan.llm_workload import Lengths, LlmStream
from carpool.plan.simulate import Outcome
from carpool.plan.slo import Verdict, verdict_of
from tests.plan.llm_scenes import COST, SUBJECT, scene, workload
from tests.profile.llm_virtual import profiled

if TYPE_CHECKING:
    from pathlib import Path

OBJECTIVES = read_llm_objectives(["ttft=2s", "tpot=150ms"])
QUICK = LlmPlanOptions(window_s=5.0, num_runs=3, max_slots=32)


@pytest.fixture(scope="module")
def plan() -> LlmPlan:
    """A plan for chats of which some begin alike."""
    return make_llm_plan(SUBJECT, workload(8.0, shared_prefix=64), OBJECTIVES, QUICK)


def run_of(answered: list[tuple[float, float, float, int]], window_s: float = 10.0) -> LlmRun:
    """A run of requests, each with its arrival, first token, last token and tokens; one step that did it all."""
    times, first, last, tokens = (np.array(column, np.float64) for column in zip(*answered, strict=True))
    num = len(answered)
    return LlmRun(
        stream=LlmStream(
            times_s=times,
            prompt_lengths=np.full(num, 4),
            output_lengths=tokens.astype(np.int64),
            window_s=window_s,
        ),
        setup=LlmSetup(num_blocks=8),
        ttft_s=first - times,
        latency_s=last - times,
        num_preemptions=np.zeros(num, np.int64),
        outcomes=np.full(num, Outcome.ANSWERED, np.int8),
        gaps_s=np.array([0.5, 1.5]),
        gaps_of=np.array([0, 0]),
        started_at=np.array([0.0]),
        took_s=np.array([5.0]),
        num_tokens=np.array([12]),
        num_sequences=np.array([3]),
        usage=np.array([0.5]),
        prefix_hits=2,
        prefix_queries=8,
    )


def test_each_figure_is_what_its_name_says() -> None:
    """By hand: two requests answered in time, one late; TPOT is the mean gap of one answer, ITL each gap."""
    run = run_of([(0.0, 1.0, 3.0, 3), (1.0, 2.0, 2.0, 1), (2.0, 8.0, 12.0, 5)])
    found = figures_of_llm(run, [LlmObjective(kind="ttft", limit_s=2.0), LlmObjective(kind="tpot", limit_s=1.0)])
    assert (found.offered, found.throughput, found.goodput) == pytest.approx((0.3, 0.2, 0.2))
    assert found.attainment == pytest.approx(2 / 3)
    assert found.shares_within == pytest.approx((2 / 3, 1.0))
    assert found.ttft_p50_s == 1.0
    assert found.tpot_p50_s == 1.0  # of two answers with more than one token: 2 s over 2, and 4 s over 4
    assert (found.itl_p50_s, found.mean_batch, found.mean_tokens) == (1.0, 3.0, 12.0)
    assert found.output_rate == pytest.approx((3 + 1 + 5 * 0.5) / 10, rel=1e-6)
    assert (found.kv_usage, found.kv_peak, found.utilisation, found.prefix_hits) == (0.5, 0.5, 0.5, 0.25)
    assert not found.grows


def test_what_fills_the_server_does_not_count() -> None:
    """Requests that arrived before the window are in none of its times, but in its rates where they end in it."""
    run = run_of([(0.0, 1.0, 6.0, 3), (6.0, 7.0, 8.0, 3)])
    found = figures_of_llm(run, warm_s=5.0)
    assert (found.offered, found.throughput) == (0.2, 0.4)
    assert (found.ttft_p50_s, found.latency_p50_s) == (1.0, 2.0)


def test_the_same_seed_gives_the_same_prediction_and_more_load_longer_waits() -> None:
    """Windows are drawn by seed and number alone."""
    setup = LlmSetup(num_blocks=2000)
    one, again, busier = scene(2.0).predict(setup, 3), scene(2.0).predict(setup, 3), scene(8.0).predict(setup, 3)
    assert one == again
    assert busier.ttft_p99_s.value > one.ttft_p99_s.value
    assert busier.mean_batch.value > one.mean_batch.value


def test_a_load_beyond_what_can_be_carried_has_no_end() -> None:
    """The queue grows, whatever the policy; about what the capacity says."""
    setup = LlmSetup(policy=StepPolicy(num_slots=32), num_blocks=4000)
    most = capacity(SUBJECT, setup, 134.0, 60.0)
    assert scene(0.6 * most, window_s=20.0).predict(setup, 3).stable
    assert not scene(1.8 * most, window_s=10.0).predict(setup, 3).stable


@pytest.mark.parametrize("text", ["p99=1s", "ttft", "ttft=0s", "ttft.p0=1s", "tpot=fast"])
def test_an_objective_of_another_form_is_refused(text: str) -> None:
    """With the forms that there are."""
    with pytest.raises(ConfigError):
        read_llm_objectives([text])


def test_objectives_come_in_one_order_and_each_once() -> None:
    """TTFT first."""
    assert [str(one) for one in read_llm_objectives(["tpot.p90=150ms", "ttft=1s"])] == [
        "p99 of TTFT within 1 s",
        "p90 of TPOT within 150 ms",
    ]
    with pytest.raises(ConfigError, match="are both of ttft"):
        read_llm_objectives(["ttft=1s", "ttft.p90=2s"])


def test_only_what_was_measured_is_searched() -> None:
    """Doublings up to the most sequences and tokens; more slots than were measured are refused."""
    slots, budgets = sizes_of(SUBJECT, None)
    assert (slots, budgets) == ([4, 8, 16, 32, 64], [64, 128, 256, 512, 1024])
    assert sizes_of(SUBJECT, 16)[0] == [4, 8, 16]
    with pytest.raises(ConfigError, match="128 sequences at a time were not measured, only up to 64"):
        sizes_of(SUBJECT, 128)


def test_a_second_worker_is_taken_where_one_does_not_keep_the_objectives() -> None:
    """And only there."""
    hard = scene(12.0, OBJECTIVES, window_s=5.0, outputs=Lengths(typical=(80,)))
    assert search_llm(hard, num_blocks=4000, most_slots=8).chosen.num_workers == 1
    assert search_llm(hard, num_blocks=4000, most_slots=8, max_workers=3).chosen.num_workers > 1
    easy = scene(1.0, OBJECTIVES, window_s=20.0)
    assert search_llm(easy, num_blocks=4000, most_slots=8, max_workers=3).chosen.num_workers == 1


def test_less_memory_does_as_well_until_it_binds() -> None:
    """The fewest blocks are below those there are, and well above one request's."""
    found = search_llm(scene(8.0, window_s=5.0), num_blocks=4096, most_slots=16)
    assert 20 < found.enough_blocks < 4096
    assert found.chosen.num_blocks == 4096
    assert found.tried[0].setup == found.chosen


def test_each_way_to_serve_differs_from_the_plan_in_one_thing() -> None:
    """None, static, continuous, pieces of prompts, the prefix cache, memory, a worker, a device."""
    chosen = LlmSetup(policy=StepPolicy(num_slots=32), num_blocks=2000)
    rows = {row.name: row for row in what_if_llm(scene(3.0, shared_prefix=64), chosen, 2)}
    assert list(rows) == [
        "no batching",
        "static batching",
        "continuous batching",
        "and prompts in pieces",
        "and prefix caching",
        "half the KV memory",
        "twice the KV memory",
        "a second worker",
        "a device twice as fast",
    ]
    assert rows["no batching"].setup.policy.num_slots == 1
    assert rows["static batching"].setup.static
    whole = rows["continuous batching"].setup.policy
    assert (whole.chunked_prefill, whole.prefix_caching) == (False, False)
    assert whole.token_budget >= 512
    assert rows["and prefix caching"].chosen
    assert rows["a second worker"].setup.num_workers == 2
    predictions = {name: row.prediction for name, row in rows.items()}
    plan, pieces = predictions["and prefix caching"], predictions["and prompts in pieces"]
    assert plan is not None
    assert pieces is not None
    assert plan.prefix_hits.value > 0.2
    assert pieces.prefix_hits.value == 0.0
    assert plan.ttft_p50_s.value < pieces.ttft_p50_s.value
    faster = predictions["a device twice as fast"]
    assert faster is not None
    assert faster.tpot_p50_s.value < 0.6 * plan.tpot_p50_s.value


def test_a_plan_says_what_to_serve_with_and_why(plan: LlmPlan) -> None:
    """Setup, times, objectives, batching, the prefix cache, memory."""
    assert plan.verdict is Verdict.MET
    said = " ".join(plan.sentences)
    for part in (
        "Serve with up to ",
        "The first token comes after",
        "p99 of TTFT within 2 s is kept",
        "tatic batching",
        "The prefix cache spares",
        "would do as well",
        "It carries up to about",
    ):
        assert part in said, part
    assert any("greedily" in doubt for doubt in plan.doubts)
    assert plan.enough_kv_bytes < plan.kv_bytes == 4096 * 368_640


def test_its_tables_and_its_page_hold_all_of_it(plan: LlmPlan, tmp_path: Path) -> None:
    """Every row and figure; the plan is marked."""
    table = what_if_table(plan)
    assert table.highlight is not None
    assert table.rows[table.highlight][0] == "and prefix caching"
    assert [row[0] for row in prediction_table(plan).rows][:3] == ["arrive", "answered", "goodput"]
    assert tried_table(plan).highlight == 0
    assert len(memory_table(plan).rows) == 2
    written = write_pages(plan, tmp_path)
    assert {path.name for path in written} == {"plan.html", "plan-times.png", "plan-tokens.png"}
    assert "Plan for tiny" in (tmp_path / "plan.html").read_text()


def story_of(plan: LlmPlan, **changed: Any) -> LlmStory:
    """What a plan's sentences are made of."""
    known: dict[str, Any] = {
        "subject": SUBJECT,
        "rate": plan.rate,
        "objectives": plan.objectives,
        "chosen": plan.chosen,
        "prediction": plan.prediction,
        "what_if": plan.what_if,
        "frontier": plan.frontier,
        "enough_blocks": 100,
    }
    return LlmStory(**(known | changed))


def test_what_cannot_be_kept_is_said_with_what_would_help(plan: LlmPlan) -> None:
    """Up to which load it goes, and what other way would keep the objectives."""
    too_much = scene(40.0, OBJECTIVES, window_s=3.0).predict(plan.chosen, 3)
    assert verdict_of(too_much) is Verdict.MISSED
    said = " ".join(sentences_about(story_of(plan, rate=40.0, prediction=too_much)))
    assert "More arrives than that can serve" in said
    assert "p99 of TTFT within 2 s is not kept" in said
    assert "What would keep them: " in said
    assert "This setup keeps them up to about" in said
    nothing = " ".join(sentences_about(story_of(plan, prediction=too_much, what_if=(), frontier=())))
    assert "No load that was looked at keeps them" in nothing


def test_what_makes_figures_less_sure_is_said(plan: LlmPlan) -> None:
    """Steps beyond what was measured, requests that were cut, workers that were never measured together."""
    narrow = replace(SUBJECT, cost=replace(COST, most=replace(COST.most, num_tokens=2)))
    story = story_of(plan, subject=narrow, chosen=replace(plan.chosen, num_workers=2))
    said = " ".join(doubts_about(story, scene(4.0, window_s=5.0).run(plan.chosen, 0), 0.0123))
    assert "1.2 % of the requests are longer, and were cut to that" in said
    assert "of the steps are beyond what was measured" in said
    assert "that 2 run as fast beside each other is an assumption" in said


def test_memory_that_holds_nothing_is_refused() -> None:
    """Before anything is simulated."""
    with pytest.raises(ConfigError, match="hold no keys and values beside 257 MiB of weights"):
        make_llm_plan(SUBJECT, workload(1.0), (), replace(QUICK, memory_bytes=1_000_000))


def test_a_profile_gives_its_cost_with_what_steps_take_besides() -> None:
    """The time in the model and the time around it; without a fit there is no plan."""
    profile = profiled()
    subject = LlmSubject.of(profile)
    assert profile.step_cost is not None
    assert subject.cost.step_s == profile.step_cost.step_s + profile.host_s
    with pytest.raises(ConfigError, match="says nothing of what a step costs"):
        LlmSubject.of(replace(profile, step_cost=None))


def test_windows_hold_enough_requests_and_not_too_many() -> None:
    """Rare requests make them longer, a flood shorter."""
    assert windows(2.0, LlmPlanOptions())[0] == 60.0
    assert windows(0.1, LlmPlanOptions())[0] == 1000.0
    full_s, short_s = windows(1000.0, LlmPlanOptions())
    assert full_s * 20 * 1000 <= 5000
    assert short_s <= full_s


@pytest.mark.parametrize(
    "wrong", [{"max_workers": 0}, {"memory_bytes": 0}, {"num_runs": 0}, {"seed": -1}, {"window_s": 0.0}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    """By name and value."""
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LlmPlanOptions(**wrong)  # type: ignore[arg-type]
