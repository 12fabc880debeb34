"""Which tokens of which sequences a step computes, and who comes next."""

import pytest

from carpool.core.continuous import Continuous
from carpool.core.cost import LinearStepTime
from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step import StepPlan, StepWork
from carpool.core.step_policy import StepPolicy
from carpool.errors import InvalidItem, QueueFull
from tests.core.fake_llm import FakeLM, Loop, alone, sequences_of, tokens_of

COST = LinearStepTime(step_s=0.010, token_s=0.001)


def prompt(length: int, *, first: int = 0) -> list[int]:
    """Return a prompt that no other begins like."""
    return [first, *[position % 2 for position in range(length - 1)]]


def loop(
    policy: StepPolicy, *, num_blocks: int = 1000, max_length: int = 10_000, timed: bool = False, ahead: int = 1
) -> Loop:
    """Return an engine with a model in virtual time; it predicts its steps exactly, or not at all."""
    engine = Continuous(policy, num_blocks=num_blocks, max_length=max_length, time_model=COST if timed else None)
    return Loop(engine, FakeLM(policy.block_size, ahead=ahead), COST)


def step(engine_loop: Loop) -> StepPlan:
    """Run a step that there is."""
    plan = engine_loop.step()
    assert plan is not None
    return plan


# ------------------------------------------------------------------------------------------------ plain steps


def test_a_sequence_gets_the_tokens_that_the_model_says() -> None:
    """The prompt runs in pieces of the budget, then a token a step, until it has as many as it may."""
    run = loop(StepPolicy(num_slots=1, token_budget=4, block_size=2))
    sequence = Sequence(tokens=prompt(9), max_new_tokens=3)
    run.run([sequence])
    assert sequence.tokens == alone(prompt(9), 3)
    assert sequence.state is SequenceState.FINISHED
    assert [(plan.chunks[0].start, plan.chunks[0].num_tokens) for plan in run.plans] == [
        (0, 4),
        (4, 4),
        (8, 1),
        (9, 1),
        (10, 1),
    ]


def test_without_sequences_there_is_no_step() -> None:
    """Nothing to do is said as such."""
    engine = loop(StepPolicy()).engine
    assert engine.plan(0.0) is None
    assert not engine.has_work


def test_running_sequences_get_a_token_before_any_prompt_does() -> None:
    """Single tokens come first in the step, and prompts share what they leave of the budget."""
    run = loop(StepPolicy(num_slots=3, token_budget=10))
    run.engine.add(Sequence(tokens=prompt(5), max_new_tokens=9), 0.0)
    run.engine.add(Sequence(tokens=prompt(5, first=1), max_new_tokens=9), 0.0)
    step(run)
    run.engine.add(Sequence(tokens=prompt(20, first=2), max_new_tokens=9), 0.0)
    assert [chunk.num_tokens for chunk in step(run).chunks] == [1, 1, 8]


def test_what_a_step_costs_by_is_told() -> None:
    """Tokens, sequences, answers, cache read by single tokens, and pairs within longer pieces."""
    run = loop(StepPolicy(num_slots=2, token_budget=8))
    run.engine.add(Sequence(tokens=prompt(6), max_new_tokens=9), 0.0)
    assert step(run).work == StepWork(6, 1, 1, 0, 6 * 3.0)
    run.engine.add(Sequence(tokens=prompt(20, first=1), max_new_tokens=9), 0.0)
    assert step(run).work == StepWork(8, 2, 1, 7, 7 * 3.5)
    assert step(run).work == StepWork(8, 2, 1, 8, 7 * (7 + 3.5))


def test_a_lost_step_is_planned_again() -> None:
    """A plan that comes to nothing leaves nothing behind."""
    run = loop(StepPolicy(num_slots=2, token_budget=8))
    for first in range(3):
        run.engine.add(Sequence(tokens=prompt(6, first=first), max_new_tokens=3), 0.0)
    assert run.engine.plan(0.0) == run.engine.plan(0.0)
    step(run)
    assert run.engine.plan(0.0) == run.engine.plan(0.0)


def test_a_sequence_that_may_generate_nothing_ends_with_its_prompt() -> None:
    """So do those whose answer is no token: vectors, or the scores of a prompt."""
    run = loop(StepPolicy())
    scored, embedded = (Sequence(tokens=[1, 2, 3], max_new_tokens=count) for count in (0, 5))
    for sequence in (scored, embedded):
        run.engine.add(sequence, 0.0)
    plan = run.engine.plan(0.0)
    assert plan is not None
    run.engine.commit(plan, [(), ()], 0.1)
    assert scored.state is embedded.state is SequenceState.FINISHED
    assert not run.engine.has_work


def test_several_tokens_at_a_time_are_computed_in_the_next_step() -> None:
    """Whoever guesses ahead hands over more than one; none beyond those wanted is kept."""
    run = loop(StepPolicy(block_size=2), ahead=3)
    sequence = Sequence(tokens=prompt(5), max_new_tokens=5)
    run.run([sequence])
    assert sequence.tokens == alone(prompt(5), 5)
    assert [chunk.num_tokens for plan in run.plans for chunk in plan.chunks] == [5, 3]


def test_equal_arrivals_give_equal_steps() -> None:
    """Ties are broken by the order of arrival: two engines told the same decide the same."""

    def steps() -> list[list[tuple[str, int, int]]]:
        run = loop(StepPolicy(num_slots=4, token_budget=16, block_size=4), num_blocks=24)
        run.run(
            Sequence(
                tokens=prompt(3 + i % 11, first=i), max_new_tokens=1 + i % 7, request_id=str(i), tenant="ab"[i % 2]
            )
            for i in range(30)
        )
        return [[(c.sequence.request_id, c.start, c.num_tokens) for c in plan.chunks] for plan in run.plans]

    assert steps() == steps()


# ------------------------------------------------------------------------------------------- who is refused


def test_what_exceeds_the_models_length_is_refused() -> None:
    """At once, with the numbers."""
    engine = loop(StepPolicy(), max_length=64).engine
    with pytest.raises(InvalidItem, match="prompt has 60 tokens and max_new_tokens is 5, together 65, but the model's"):
        engine.add(Sequence(tokens=prompt(60), max_new_tokens=5), 0.0)
    engine.add(Sequence(tokens=prompt(60), max_new_tokens=4), 0.0)


def test_what_exceeds_the_cache_is_refused() -> None:
    """At once: it would wait for ever. The last token needs no room, as nothing is computed of it."""
    run = loop(StepPolicy(block_size=4), num_blocks=5)
    with pytest.raises(InvalidItem, match="which need 6 blocks of 4 tokens, but the cache has 5: shorten"):
        run.engine.add(Sequence(tokens=prompt(15), max_new_tokens=7), 0.0)
    fits = Sequence(tokens=prompt(15), max_new_tokens=6)
    run.run([fits])
    assert fits.num_tokens == 21
    assert not fits.num_preemptions


def test_without_pieces_what_exceeds_the_budget_is_refused() -> None:
    """Generated tokens count: after a preemption they would have to run with the prompt."""
    engine = loop(StepPolicy(num_slots=4, token_budget=16, chunked_prefill=False)).engine
    with pytest.raises(InvalidItem, match=r"up to 17 tokens .* token_budget is 16"):
        engine.add(Sequence(tokens=prompt(10), max_new_tokens=8), 0.0)
    engine.add(Sequence(tokens=prompt(10), max_new_tokens=7), 0.0)


@pytest.mark.parametrize(("tokens", "count", "message"), [([], 1, "has no token"), ([1], -1, "max_new_tokens is -1")])
def test_what_makes_no_sense_is_refused(tokens: list[int], count: int, message: str) -> None:
    """A prompt has a token, and no model generates less than none."""
    with pytest.raises(InvalidItem, match=message):
        loop(StepPolicy()).engine.add(Sequence(tokens=tokens, max_new_tokens=count), 0.0)


def test_a_full_queue_says_when_to_come_back() -> None:
    """As soon as another sequence is admitted: known once two have been, one after the other."""
    run = loop(StepPolicy(num_slots=1, max_waiting=2))
    for first in range(2):
        run.engine.add(Sequence(tokens=prompt(4, first=first), max_new_tokens=3), 0.0)
    with pytest.raises(QueueFull, match="2 sequences wait, and max_waiting is 2: try again later") as refusal:
        run.engine.add(Sequence(tokens=prompt(4), max_new_tokens=3), 0.0)
    assert refusal.value.retry_after_s is None
    for _ in range(4):
        step(run)
        while run.engine.num_waiting < 2:
            run.engine.add(Sequence(tokens=prompt(4), max_new_tokens=3), run.now)
    with pytest.raises(QueueFull, match="try again in") as refusal:
        run.engine.add(Sequence(tokens=prompt(4), max_new_tokens=3), run.now)
    assert refusal.value.retry_after_s == pytest.approx(COST.step_s * 3 + COST.token_s * 6)


# ---------------------------------------------------------------------------------------- long and short prompts


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    """Half of the tokens go to those that can be finished, however many long ones came before."""
    run = loop(StepPolicy(num_slots=8, token_budget=64))
    for first in range(3):
        run.engine.add(Sequence(tokens=prompt(1000, first=first), max_new_tokens=2), 0.0)
    step(run)
    short = Sequence(tokens=prompt(20, first=3), max_new_tokens=2)
    run.engine.add(short, 0.0)
    assert [chunk.num_tokens for chunk in step(run).chunks] == [44, 20]
    assert short.num_generated == 1


def test_a_short_prompt_of_less_priority_waits_for_a_long_one() -> None:
    """To be short is no way past what matters more."""
    run = loop(StepPolicy(num_slots=8, token_budget=64))
    for first in range(2):
        run.engine.add(Sequence(tokens=prompt(100, first=first), max_new_tokens=2), 0.0)
    step(run)
    background = Sequence(tokens=prompt(10, first=3), max_new_tokens=2, priority=-1)
    run.engine.add(background, 0.0)
    while run.engine.num_waiting > 1:
        assert not tokens_of(step(run), background)


def test_a_much_shorter_prompt_goes_beside_a_long_one_for_several_steps() -> None:
    """Also where a step holds too few tokens to finish it."""
    run = loop(StepPolicy(num_slots=8, token_budget=16))
    long, shorter, like = (Sequence(tokens=prompt(n, first=n), max_new_tokens=1) for n in (100, 24, 60))
    for sequence in (long, like, shorter):
        run.engine.add(sequence, 0.0)
    pieces = [{chunk.sequence: chunk.num_tokens for chunk in step(run).chunks} for _ in range(4)]
    assert pieces == [{long: 8, shorter: 8}] * 3 + [{long: 16}]


def test_short_prompts_make_a_long_one_take_twice_as_long_at_most() -> None:
    """The other half of the tokens is the long one's."""
    run = loop(StepPolicy(num_slots=8, token_budget=64))
    long = Sequence(tokens=prompt(640), max_new_tokens=1)
    run.engine.add(long, 0.0)
    num_steps = 0
    while long.state is not SequenceState.FINISHED:
        while run.engine.num_waiting < 8:
            run.engine.add(Sequence(tokens=prompt(8, first=num_steps), max_new_tokens=1, arrived_at=run.now), run.now)
        step(run)
        num_steps += 1
    assert num_steps == 20


def test_prompts_of_one_length_run_one_after_the_other() -> None:
    """To run them side by side would make all as late as the last."""
    run = loop(StepPolicy(num_slots=4, token_budget=16))
    sequences = [Sequence(tokens=prompt(32, first=first), max_new_tokens=1) for first in range(4)]
    run.run(sequences)
    assert [run.times[sequence].first_at for sequence in sequences] == pytest.approx(
        [number * 2 * (COST.step_s + 16 * COST.token_s) for number in range(1, 5)]
    )


def test_a_prompt_that_finds_no_room_lets_as_many_tokens_pass_as_it_needs_and_then_nobody() -> None:
    """Short ones use the blocks meanwhile, but can't keep it out for ever."""
    run = loop(StepPolicy(num_slots=4, token_budget=200, block_size=4, prefix_caching=False), num_blocks=32)
    stays = Sequence(tokens=prompt(40), max_new_tokens=60)
    run.engine.add(stays, 0.0)
    step(run)
    long = Sequence(tokens=prompt(100, first=1), max_new_tokens=1)
    run.engine.add(long, 0.0)
    plan = step(run)
    passed = 0
    while long.state is SequenceState.WAITING:
        if run.engine.num_waiting == 1:
            run.engine.add(Sequence(tokens=prompt(8, first=2), max_new_tokens=2, arrived_at=run.now), run.now)
        passed += sum(chunk.num_tokens == 8 for chunk in plan.chunks)
        plan = step(run)
    assert passed == 11  # the first with 10 x 11 tokens that is no less than 101
    assert stays.state is SequenceState.FINISHED


def test_whole_prompts_run_in_one_step() -> None:
    """Without pieces a prompt waits for a step that holds all of it; single tokens make way at most every other one."""
    run = loop(StepPolicy(num_slots=4, token_budget=16, chunked_prefill=False, prefix_caching=False))
    for first in range(3):
        run.engine.add(Sequence(tokens=prompt(4, first=first), max_new_tokens=9), 0.0)
    assert [chunk.num_tokens for chunk in step(run).chunks] == [4, 4, 4]
    rows = []
    for _ in range(4):
        run.engine.add(Sequence(tokens=prompt(15), max_new_tokens=1), 0.0)
        rows.append([chunk.num_tokens for chunk in step(run).chunks])
    assert rows == [[1, 15], [1, 1, 1], [1, 15], [1, 1, 1]]


# ------------------------------------------------------------------------------------------------ prefixes


def test_what_has_been_computed_is_not_computed_again() -> None:
    """A prompt that begins as another did finds its full blocks; its last token runs in any case."""
    run = loop(StepPolicy(block_size=4))
    for tokens in (prompt(12), [*prompt(12), 1, 1], prompt(12)):
        run.run([Sequence(tokens=tokens, max_new_tokens=1, arrived_at=run.now)])
    assert [plan.work.num_tokens for plan in run.plans] == [12, 2, 4]
    assert (run.engine.prefix_queries, run.engine.prefix_hits) == (38, 20)
    assert [plan.chunks[0].sequence.num_cached for plan in run.plans] == [0, 12, 8]


def test_what_was_generated_is_found_too() -> None:
    """The next turn of a conversation begins with the last answer."""
    run = loop(StepPolicy(block_size=4))
    first = Sequence(tokens=prompt(6), max_new_tokens=7)
    run.run([first])
    second = Sequence(tokens=[*first.tokens, 1], max_new_tokens=1, arrived_at=run.now)
    run.run([second])
    assert second.num_cached == 12


def test_salts_keep_tenants_apart() -> None:
    """Nobody learns from the time of an answer what others asked."""
    run = loop(StepPolicy(block_size=4))
    for salt in ("a", "b", "a"):
        run.run([Sequence(tokens=prompt(12), max_new_tokens=1, cache_salt=salt, arrived_at=run.now)])
    assert [plan.work.num_tokens for plan in run.plans] == [12, 12, 4]


def test_a_prompt_whose_logits_are_wanted_is_computed_whole() -> None:
    """What is found in the cache has no logits."""
    run = loop(StepPolicy(block_size=4))
    for _ in range(2):
        run.run([Sequence(tokens=prompt(12), max_new_tokens=1, wants_prompt_logits=True, arrived_at=run.now)])
    assert [plan.work.num_tokens for plan in run.plans] == [12, 12]
    assert run.engine.prefix_queries == 0


def test_without_prefix_caching_nothing_is_found() -> None:
    """Nor counted, nor is any digest computed."""
    run = loop(StepPolicy(block_size=4, prefix_caching=False))
    sequences = [Sequence(tokens=prompt(12), max_new_tokens=1) for _ in range(2)]
    for sequence in sequences:
        run.run([sequence])
    assert not any(sequence.digests for sequence in sequences)
    assert [plan.work.num_tokens for plan in run.plans] == [12, 12]
    assert run.engine.prefix_queries == 0


# --------------------------------------------------------------------------------------------- out of blocks


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


# ------------------------------------------------------------------------------------------------- who is next


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


# ------------------------------------------------------------------------------------------------------ endings


def test_a_sequence_may_end_between_plan_and_commit() -> None:
    """What the step computed for it is passed over, and its room is there for the next one."""
    run = loop(StepPolicy(num_slots=2, block_size=4))
    gone, stays = (Sequence(tokens=prompt(8, first=i), max_new_tokens=5) for i in range(2))
    for sequence in (gone, stays):
        run.engine.add(sequence, 0.0)
    step(run)
    plan = run.engine.plan(run.now)
    assert plan is not None
    run.engine.finish(gone)
    assert run.engine.num_running == 1
    tokens = list(gone.tokens)
    run.engine.commit(plan, run.model.run(plan), run.now)
    assert gone.tokens == tokens
    assert stays.num_generated == 2
    run.engine.check_integrity()


def test_a_sequence_that_waits_may_end() -> None:
    """New, preempted or a fork: it is gone from where it was, and ending it twice changes nothing."""
    run = loop(StepPolicy(num_slots=1))
    waits = Sequence(tokens=prompt(8), max_new_tokens=5)
    run.engine.add(waits, 0.0)
    fork = Sequence(tokens=prompt(8), max_new_tokens=5)
    run.engine.fork(waits, fork)
    for sequence in (fork, waits, waits, Sequence(tokens=[1], max_new_tokens=1)):
        run.engine.finish(sequence)
    assert not run.engine.has_work
    run.engine.check_integrity()


# -------------------------------------------------------------------------------------------------------- forks


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_forks_share_the_blocks_that_their_common_tokens_fill(prefix_caching: bool) -> None:
    """The prompt is computed once; each then has a last block of its own, so that none is ever copied."""
    run = loop(StepPolicy(num_slots=4, block_size=4, prefix_caching=prefix_caching))
    parent = Sequence(tokens=prompt(14), max_new_tokens=4, cache_salt="salt")
    run.engine.add(parent, 0.0)
    children = [Sequence(tokens=prompt(14), max_new_tokens=4) for _ in range(3)]
    for child in children:
        run.engine.fork(parent, child)
    assert [chunk.num_tokens for chunk in step(run).chunks] == [14]
    assert [chunk.num_tokens for chunk in step(run).chunks] == [1, 2, 2, 2]
    assert all(child.blocks[:3] == parent.blocks[:3] for child in children)
    assert len({sequence.blocks[3] for sequence in (parent, *children)}) == 4
    assert all(child.digests is not parent.digests for child in children)
    run.run()
    assert all(sequence.tokens == alone(prompt(14), 4) for sequence in (parent, *children))


def test_a_fork_may_begin_with_what_was_generated() -> None:
    """At any step, as when a search goes on from one candidate."""
    run = loop(StepPolicy(num_slots=4, block_size=4))
    parent = Sequence(tokens=prompt(5), max_new_tokens=12)
    run.engine.add(parent, 0.0)
    for _ in range(6):
        step(run)
    child = Sequence(tokens=list(parent.tokens), max_new_tokens=6)
    run.engine.fork(parent, child)
    assert tokens_of(step(run), child) == 3  # 11 tokens, of which 8 are in full blocks
    run.run()
    assert child.tokens == parent.tokens == alone(prompt(5), 12)


def test_a_fork_outlives_its_parent() -> None:
    """It finds the blocks if they are kept, and computes what it has to if not."""
    run = loop(StepPolicy(num_slots=1, block_size=4, prefix_caching=False))
    parent, child = (Sequence(tokens=prompt(9), max_new_tokens=3) for _ in range(2))
    run.engine.add(parent, 0.0)
    run.engine.fork(parent, child)
    run.engine.finish(parent)
    late = Sequence(tokens=prompt(9), max_new_tokens=3)
    run.engine.fork(parent, late)
    run.run()
    assert child.tokens == late.tokens == alone(prompt(9), 3)
