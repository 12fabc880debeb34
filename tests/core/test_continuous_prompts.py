"""Long and short prompts beside each other, prefixes that are known, and forks."""

import pytest

from carpool.core.sequence import Sequence, SequenceState
from carpool.core.step_policy import StepPolicy
from tests.core.fake_llm import COST, alone, loop, prompt, step, tokens_of


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
