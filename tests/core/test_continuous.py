"""Which tokens of which sequences a step computes, who is refused, and how sequences end."""

import pytest

from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step import StepWork
from carpool.core.step_policy import StepPolicy
from carpool.errors import InvalidItem, QueueFull
from tests.core.fake_llm import COST, alone, loop, prompt, step


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
