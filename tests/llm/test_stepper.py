"""One step after another: what is generated, what is told of it, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carpool.errors import (
    DeadlineExceeded,
    InvalidItem,
    QueueFull,
)
from carpool.llm.request import Generation
from carpool.signals.llm_events import SequenceEnded, SequenceRefused, StepRan
from tests.llm.fake_runner import EOS, VOCABULARY_SIZE, FakeRunner, expected, text, tokens
from tests.llm.stepping import AtOnce, Bench, Gone, Later

if TYPE_CHECKING:
    from carpool.llm.outputs import Output
    from carpool.llm.runner import StepBatch

PROMPT = tokens("hello there")


def test_generation_is_what_the_model_says() -> None:
    """Its tokens, their text, and why it ended."""
    bench = Bench()
    asked = bench.submit(PROMPT)
    bench.run()
    assert asked.token_ids() == expected(PROMPT, 6)
    assert asked.text() == text(expected(PROMPT, 6))
    assert asked.reason() == "length"
    last = asked.outputs[-1]
    assert (last.num_prompt, last.num_cached, last.num_generated) == (len(PROMPT), 0, 6)


def test_each_step_hands_out_a_token() -> None:
    """A stream has its tokens as they come."""
    bench = Bench()
    asked = bench.submit(tokens("hi"))
    bench.step()
    assert asked.token_ids() == expected(tokens("hi"), 1)
    bench.step()
    assert asked.token_ids() == expected(tokens("hi"), 2)
    assert asked.reason() is None


def test_many_generations_share_the_steps() -> None:
    """More than there are slots, of different lengths, in far fewer steps than alone."""
    bench = Bench()
    prompts = [tokens("a long prompt is here"), tokens("b"), tokens("cd ef"), tokens("gh"), tokens("ijklmnop"), [0]]
    asked = [bench.submit(prompt, max_tokens=3 + place) for place, prompt in enumerate(prompts)]
    num_steps = bench.run()
    for place, (prompt, one) in enumerate(zip(prompts, asked, strict=True)):
        assert one.token_ids() == expected(prompt, 3 + place)
    assert num_steps < sum(3 + place for place in range(len(prompts)))


def test_text_ends_with_the_models_own_end() -> None:
    """The token that says so is told, and is no text."""
    bench = Bench(FakeRunner(can_end=True))
    prompt = next([n] for n in range(EOS) if EOS in expected([n], 30, can_end=True))
    asked = bench.submit(prompt, max_tokens=30)
    bench.run()
    assert asked.token_ids() == expected(prompt, 30, can_end=True)
    assert asked.token_ids()[-1] == EOS
    assert asked.text() == text(asked.token_ids()[:-1])
    assert asked.reason() == "stop"
    assert asked.outputs[-1].stop_reason is None


def test_stop_token_of_the_request_is_named() -> None:
    """A token that the request names ends the text as well."""
    bench = Bench()
    stop = expected(PROMPT, 3)[-1]
    asked = bench.submit(PROMPT, stop_token_ids=(stop,))
    bench.run()
    first = expected(PROMPT, 6).index(stop)
    assert asked.token_ids() == expected(PROMPT, 6)[: first + 1]
    assert asked.text() == text(expected(PROMPT, first))
    assert (asked.reason(), asked.outputs[-1].stop_reason) == ("stop", stop)


def test_stop_string_ends_the_text_before_it() -> None:
    """It may span tokens; nothing of it is told."""
    bench = Bench()
    whole = text(expected(PROMPT, 20))
    asked = bench.submit(PROMPT, max_tokens=20, stop=(whole[7:9],))
    bench.run()
    assert asked.text() == whole[: whole.index(whole[7:9])]
    assert (asked.reason(), asked.outputs[-1].stop_reason) == ("stop", whole[7:9])
    (ended,) = bench.diary.of(SequenceEnded)
    assert (ended.reason, ended.num_generated) == ("stop", whole.index(whole[7:9]) + 2)


def test_stop_string_that_is_found_late_costs_what_was_computed_meanwhile() -> None:
    """Text is made while the next step computes: what comes after the stop string is dropped."""
    bench, later = Bench(), Later()
    whole = text(expected(PROMPT, 20))
    asked = bench.submit(PROMPT, consumer=later, max_tokens=20, stop=(whole[3:5],))
    for _ in range(12):
        bench.step()
    later.run()
    assert asked.text() == whole[: whole.index(whole[3:5])]
    assert asked.reason() == "stop"
    bench.run()
    later.run()
    assert asked.reason() == "stop"


def test_sequences_of_one_prompt_share_what_is_computed_of_it() -> None:
    """Each of the `n` has its own tokens; greedy ones are alike, and the prompt is computed once."""
    bench = Bench()
    prompt = tokens("one prompt of twenty")
    asked = bench.submit(prompt, n=3, max_tokens=4)
    bench.run()
    for index in range(3):
        assert asked.token_ids(index) == expected(prompt, 4)
        assert asked.reason(index) == "length"
    assert sum(step.num_tokens for step in bench.diary.of(StepRan)) < 2 * len(prompt)


def test_prompt_that_was_computed_before_is_found() -> None:
    """Its blocks are shared, which is told."""
    bench = Bench()
    prompt = tokens("the same beginning, ".replace(",", "."))
    bench.submit(prompt)
    bench.run()
    again = bench.submit([*prompt, 3, 4])
    bench.run()
    assert again.token_ids() == expected([*prompt, 3, 4], 6)
    assert again.outputs[-1].num_cached == 20
    assert sum(step.prefix_hits for step in bench.diary.of(StepRan)) == 20


def test_small_cache_takes_blocks_away_and_computes_again() -> None:
    """The tokens stay the same."""
    bench = Bench(FakeRunner(num_blocks=8), prefix_caching=False)
    prompts = [tokens("abc"), tokens("defg"), tokens("hi")]
    asked = [bench.submit(prompt, max_tokens=16) for prompt in prompts]
    bench.run()
    for prompt, one in zip(prompts, asked, strict=True):
        assert one.token_ids() == expected(prompt, 16)
    assert sum(step.num_preempted for step in bench.diary.of(StepRan)) > 0
    assert sum(end.num_preemptions for end in bench.diary.of(SequenceEnded)) > 0


def test_cancelled_generation_leaves_before_the_next_step() -> None:
    """No more output comes, and its slot and blocks are free."""
    bench = Bench(num_slots=1)
    first, second = bench.submit(PROMPT, max_tokens=50), bench.submit(tokens("b"))
    for _ in range(4):
        bench.step()
    bench.stepper.end(first.jobs, "abort")
    bench.step()
    assert second.token_ids() == expected(tokens("b"), 1)
    bench.run()
    assert second.reason() == "length"
    assert bench.stepper.usage == 0.0
    assert [end.reason for end in bench.diary.of(SequenceEnded)] == ["abort", "length"]


def test_generation_may_be_cancelled_while_its_step_runs() -> None:
    """What the step computed of it is dropped; the others have theirs."""
    gone: list[object] = []

    def cancel(batch: StepBatch) -> None:
        if len(gone) < 3:
            gone.append(None)
        elif len(gone) == 3:
            gone.append(None)
            bench.stepper.end(first.jobs, "abort")

    bench = Bench(FakeRunner(before=cancel))
    first, second = bench.submit(tokens("ab"), max_tokens=20), bench.submit(tokens("cd"), max_tokens=20)
    bench.run()
    assert first.token_ids() == expected(tokens("ab"), 3)
    assert second.token_ids() == expected(tokens("cd"), 20)


def test_outputs_that_nobody_takes_end_the_generation() -> None:
    """As when the event loop has closed."""
    bench = Bench()
    asked = bench.submit(PROMPT, consumer=Gone(), max_tokens=50)
    other = bench.submit(tokens("b"))
    bench.run()
    assert asked.outputs == []
    assert other.reason() == "length"
    assert sorted(end.reason for end in bench.diary.of(SequenceEnded)) == ["abort", "length"]


def test_taker_that_raises_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """Its generation is given up."""
    bench = Bench()

    def fail(output: Output) -> None:
        raise ZeroDivisionError("not today")

    bench.stepper.submit(Generation(prompt=PROMPT), fail, AtOnce())
    other = bench.submit(tokens("b"))
    bench.run()
    assert other.reason() == "length"
    assert sorted(end.reason for end in bench.diary.of(SequenceEnded)) == ["abort", "length"]
    assert "not today" in caplog.text


def test_vector_is_the_last_tokens() -> None:
    """Beside generations that want text, and with nothing generated."""
    bench = Bench()
    asked = bench.submit(PROMPT, options={"wants": "vector"})
    other = bench.submit(tokens("b"))
    bench.run()
    (output,) = asked.outputs
    assert output.vector is not None
    assert output.vector.argmax() == expected(PROMPT, 1)[0]
    assert (output.finish_reason, output.token_ids, output.num_generated) == ("stop", (), 0)
    assert sum(step.num_sampled for step in bench.diary.of(StepRan)) == 6
    assert other.token_ids() == expected(tokens("b"), 6)


def test_log_probabilities_come_with_their_tokens() -> None:
    """Of the tokens, and of the prompt's: None for the first, which nothing comes before."""
    bench = Bench()
    asked = bench.submit(PROMPT, logprobs=2, prompt_logprobs=1, max_tokens=3)
    bench.run()
    records = [record for output in asked.outputs for record in output.logprobs]
    assert [record.token for record in records] == expected(PROMPT, 3)
    assert all(len(record.top) == 2 and record.top[0][0] == record.token for record in records)
    first, *prompt_records = asked.outputs[0].prompt_logprobs
    assert first is None
    assert [record.token for record in prompt_records if record] == PROMPT[1:]
    for place, record in enumerate(prompt_records, 1):
        assert record is not None
        assert record.top[0][0] == expected(PROMPT[:place], 1)[0]
    assert all(output.prompt_logprobs == () for output in asked.outputs[1:])


def test_log_probabilities_of_a_prompt_survive_a_preemption() -> None:
    """Told once, whole, whatever was computed again."""
    bench = Bench(FakeRunner(num_blocks=9))
    asked = [bench.submit(tokens(start * 9), prompt_logprobs=0, max_tokens=12) for start in "abc"]
    bench.run()
    assert sum(step.num_preempted for step in bench.diary.of(StepRan)) > 0
    for one, start in zip(asked, "abc", strict=True):
        records = [record for output in one.outputs for record in output.prompt_logprobs]
        assert [record and record.token for record in records] == [None, *tokens(start * 8)]


# --------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("prompt", "params", "says"),
    [
        ([], {}, "the prompt is empty"),
        ([1, -1], {}, "the token -1"),
        ([1, VOCABULARY_SIZE], {}, f"the token {VOCABULARY_SIZE}, and the model has those from 0"),
        ([1.5], {}, "must be whole numbers"),
        ([1] * 200, {}, "200"),
        ([1] * 100, {"max_tokens": 50}, "100"),
        ([1], {"stop_token_ids": (99,)}, "names the token 99"),
    ],
)
def test_generation_that_can_never_be_is_refused_at_once(prompt: list[int], params: dict[str, Any], says: str) -> None:
    """With the numbers, and counted."""
    bench = Bench()
    with pytest.raises(InvalidItem, match=says):
        bench.submit(prompt, **params)
    assert [event.reason for event in bench.diary.of(SequenceRefused)] == ["invalid"]
    assert not bench.step()


def test_length_that_is_not_given_is_what_the_model_leaves() -> None:
    """Up to its longest sequence."""
    bench = Bench(FakeRunner(max_length=32))
    asked = bench.submit(PROMPT, max_tokens=None)
    bench.run()
    assert len(asked.token_ids()) == 32 - len(PROMPT)
    assert asked.reason() == "length"


def test_full_queue_refuses() -> None:
    """Counted as such."""
    bench = Bench(max_waiting=2)
    for _ in range(2):
        bench.submit(PROMPT)
    with pytest.raises(QueueFull):
        bench.submit(PROMPT)
    assert [event.reason for event in bench.diary.of(SequenceRefused)] == ["queue_full"]
    bench.run()


def test_prompt_that_waits_too_long_is_given_up() -> None:
    """It is answered and not computed; one that has begun goes on."""
    bench = Bench(num_slots=1)
    first = bench.submit(PROMPT, max_tokens=9, options={"timeout_s": 3.0})
    second = bench.submit(tokens("b"), n=2, options={"timeout_s": 3.0})
    bench.run()
    assert first.reason() == "length"
    assert [output.finish_reason for output in second.outputs] == ["abort", "abort"]
    assert isinstance(second.outputs[0].error, DeadlineExceeded)
    assert "longer than its timeout" in str(second.outputs[0].error)


def test_timeouts_of_what_has_long_begun_are_forgotten() -> None:
    """They do not pile up under load."""
    bench = Bench()
    for _ in range(3000):
        bench.submit([1], max_tokens=1, options={"timeout_s": 1e9})
        bench.stepper.step()
    assert len(bench.stepper._timeouts) < 1100


def test_events_say_when_what_happened() -> None:
    """From the steps alone the figures can be told."""
    bench = Bench(num_slots=1)
    bench.submit(PROMPT, max_tokens=3, options={"tenant": "alice", "request_id": "r1"})
    bench.step()
    bench.submit(tokens("b"), max_tokens=1)
    bench.run()
    steps, ends = bench.diary.of(StepRan), bench.diary.of(SequenceEnded)
    assert [step.started_at for step in steps] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [step.num_tokens for step in steps] == [8, 3, 1, 1, 1]
    assert [step.num_sampled for step in steps] == [0, 1, 1, 1, 1]
    assert [step.ttft_s for step in steps] == [(), (1.0,), (), (), (3.0,)]
    assert [step.itl_s for step in steps] == [(), (), (1.0,), (1.0,), ()]
    assert [step.num_waiting for step in steps] == [0, 1, 1, 1, 0]
    first, second = ends
    assert (first.tenant, first.request_id, first.num_prompt, first.num_generated) == ("alice", "r1", len(PROMPT), 3)
    assert (first.arrived_at, first.scheduled_at, first.first_token_at, first.at) == (0.0, 0.0, 1.0, 3.0)
    assert (second.scheduled_at, second.at) == (4.0, 4.0)
