"""Who comes next, who gives way when blocks run out, and what objectives do."""

import pytest

from carpool.core.continuous import Continuous
from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step import StepPlan, StepWork
from carpool.core.step_policy import StepPolicy
from tests.core.fake_llm import Loop, alone, loop, prompt, sequences_of, step, tokens_of


def run_until_preempted(run: Loop) -> StepPlan:
    """Run until a step for which somebody had to give way."""
    while not (plan := step(run)).preempted:
        pass
    return plan


def test_the_least_entitled_gives_way_and_comes_back_first() -> None:
    """Its tokens are kept, nobody enters in that step, and it runs again before those that never have."""
    run = loop(StepPolicy(num_slots=3, token_budget=32, block_size=4, prefix_caching=False), num_blocks=10)
    early, late = (Sequence(tokens=prompt(13, first=i), max_new_tokens=15, arrived_at=i / 10) for i in range(2))
    run.engine.add(late, 0.1)
    run.engine.add(early, 0.1)
    step(run)
    assert {early.state, late.state} == {SequenceState.RUNNING}
    other = Sequence(tokens=prompt(2, first=2), max_new_tokens=1, arrived_at=0.2)
    plan = run_until_preempted(run)
    run.engine.add(other, run.now)
    num_before = len(run.plans)
    assert plan.preempted == (late,)
    assert plan.preempted_because == "2 blocks wanted by 2 sequences, 0 free"
    assert (late.state, late.num_computed, late.blocks) == (SequenceState.WAITING, 0, [])
    assert late.num_generated > 0
    run.run()
    assert sequences_of(run.plans[num_before:]) == [early, late, other]
    assert early.tokens == alone(prompt(13), 15)
    assert late.tokens == alone(prompt(13, first=1), 15)
    assert run.engine.num_preemptions == 1


def test_background_work_gives_way_before_what_came_later() -> None:
    """The lowest priority goes first, whenever it came."""
    run = loop(StepPolicy(num_slots=3, token_budget=32, block_size=4, ageing_s=0.0), num_blocks=10)
    background = Sequence(tokens=prompt(13), max_new_tokens=15, priority=-1)
    run.engine.add(background, 0.0)
    step(run)
    run.engine.add(Sequence(tokens=prompt(13, first=1), max_new_tokens=15, arrived_at=run.now), run.now)
    assert run_until_preempted(run).preempted == (background,)


def test_the_tenant_that_holds_most_gives_way() -> None:
    """A flood of one tenant does not push out the one sequence of another."""
    run = loop(StepPolicy(num_slots=3, token_budget=64, block_size=4), num_blocks=15)
    flood = [Sequence(tokens=prompt(13, first=i), max_new_tokens=15, tenant="flood") for i in range(2)]
    for sequence in flood:
        run.engine.add(sequence, 0.0)
    step(run)
    single = Sequence(tokens=prompt(13, first=2), max_new_tokens=15, tenant="single", arrived_at=run.now)
    run.engine.add(single, run.now)
    assert run_until_preempted(run).preempted == (flood[1],)


def test_nobody_enters_without_room_for_the_whole_prompt_and_for_those_that_run_to_grow() -> None:
    """Else it would soon be preempted, and its work done twice."""
    run = loop(StepPolicy(num_slots=3, token_budget=8, block_size=4), num_blocks=10)
    run.engine.add(Sequence(tokens=prompt(7), max_new_tokens=2), 0.0)
    step(run)
    late = Sequence(tokens=prompt(32, first=1), max_new_tokens=1)
    run.engine.add(late, run.now)  # 8 blocks are free, but one is for the other's growth
    assert not tokens_of(step(run), late)
    assert tokens_of(step(run), late)
    assert len(late.blocks) == 8


def test_a_tiny_cache_does_not_collapse() -> None:
    """Where four at a time would fit, little work is done twice, however many wait."""
    run = loop(StepPolicy(num_slots=16, token_budget=64, block_size=4, prefix_caching=False), num_blocks=40)
    sequences = [Sequence(tokens=prompt(16, first=i), max_new_tokens=20) for i in range(40)]
    run.run(sequences)
    assert all(sequence.tokens == alone(prompt(16, first=i), 20) for i, sequence in enumerate(sequences))
    needed = sum(sequence.num_tokens - 1 for sequence in sequences)
    assert sum(plan.work.num_tokens for plan in run.plans) < 1.5 * needed


def first_in(run: Loop, sequences: list[Sequence]) -> list[int]:
    """Run sequences that all wait; return their numbers in the order of their first tokens."""
    for sequence in sequences:
        run.engine.add(sequence, run.now)
    run.run()
    return sorted(range(len(sequences)), key=lambda number: run.times[sequences[number]].first_at)


def test_who_came_first_goes_first() -> None:
    """Without priorities, objectives or tenants."""
    run = loop(StepPolicy(num_slots=1))
    assert first_in(run, [Sequence(tokens=prompt(4), max_new_tokens=2, arrived_at=-i) for i in range(3)]) == [2, 1, 0]


def test_a_level_of_priority_is_worth_so_many_seconds_of_waiting() -> None:
    """So that what is urgent goes first, and what waits long enough is urgent."""
    run = loop(StepPolicy(num_slots=1, ageing_s=1.0))
    run.now = 10.0
    arrivals = [(10.0, 0), (10.0, 1), (8.5, 0), (9.5, -1)]
    sequences = [Sequence(tokens=prompt(4), max_new_tokens=1, arrived_at=at, priority=p) for at, p in arrivals]
    assert first_in(run, sequences) == [2, 1, 0, 3]


def test_a_flood_of_what_is_more_urgent_starves_nobody() -> None:
    """Background work runs once those that came two seconds later would be next."""
    run = loop(StepPolicy(num_slots=1, ageing_s=1.0))
    background = Sequence(tokens=prompt(4), max_new_tokens=1, priority=-2)
    run.engine.add(background, 0.0)
    while background.state is not SequenceState.FINISHED:
        while run.engine.num_waiting < 5:
            run.engine.add(Sequence(tokens=prompt(4, first=1), max_new_tokens=1, arrived_at=run.now), run.now)
        step(run)
    assert 2.0 <= run.now <= 2.1


def test_the_earliest_objective_goes_first() -> None:
    """And those with none once they have waited `patience_s`."""
    run = loop(StepPolicy(num_slots=1, patience_s=2.0))
    run.now = 10.0
    wanted_by = [11.4, float("inf"), 11.0]
    sequences = [Sequence(tokens=prompt(4), max_new_tokens=1, arrived_at=9.5, first_token_by=at) for at in wanted_by]
    assert first_in(run, sequences) == [2, 0, 1]


def test_what_is_too_late_anyway_takes_nobodys_place_and_still_runs() -> None:
    """An objective is no deadline: a sequence that can't keep it is served like one that has none."""
    run = loop(StepPolicy(num_slots=1, patience_s=5.0), timed=True)
    run.now = 10.0
    wanted_by = [10.01, 10.08, 10.04]
    sequences = [
        Sequence(tokens=prompt(20, first=i), max_new_tokens=1, arrived_at=10.0, first_token_by=at)
        for i, at in enumerate(wanted_by)
    ]
    assert first_in(run, sequences) == [2, 1, 0]
    assert [run.times[sequence].first_at <= sequence.first_token_by for sequence in sequences] == [False, True, True]


def test_prompts_leave_running_sequences_their_time_between_tokens() -> None:
    """Steps are cut to what the tightest of them allows, as the model of their time predicts."""
    run = loop(StepPolicy(num_slots=4, token_budget=256), timed=True)
    quick = Sequence(tokens=prompt(4), max_new_tokens=30, token_interval_s=0.0605)
    run.engine.add(quick, 0.0)
    step(run)
    long = Sequence(tokens=prompt(900, first=1), max_new_tokens=1)
    run.engine.add(long, 0.0)
    run.run()
    assert run.times[quick].longest_gap_s == pytest.approx(0.060)
    assert tokens_of(run.plans[1], long) == 49


def test_an_objective_that_cannot_be_kept_does_not_stop_prompts() -> None:
    """They get an eighth of the budget at least."""
    run = loop(StepPolicy(num_slots=4, token_budget=256), timed=True)
    run.engine.add(Sequence(tokens=prompt(4), max_new_tokens=30, token_interval_s=0.001), 0.0)
    step(run)
    long = Sequence(tokens=prompt(300, first=1), max_new_tokens=1)
    run.engine.add(long, 0.0)
    assert tokens_of(step(run), long) == 32


def test_a_model_that_learns_is_told_what_steps_took() -> None:
    """From the plan to the commit."""
    seen = []

    class Learning:
        def time_s(self, work: StepWork) -> float:
            return 0.0

        def observe(self, work: StepWork, service_s: float) -> None:
            seen.append((work.num_tokens, service_s))

    engine = Continuous(StepPolicy(), num_blocks=10, max_length=64, time_model=Learning())
    engine.add(Sequence(tokens=[1, 2, 3], max_new_tokens=2), 0.0)
    plan = engine.plan(1.0)
    assert plan is not None
    engine.commit(plan, [(4,)], 1.5)
    assert seen == [(3, 0.5)]
