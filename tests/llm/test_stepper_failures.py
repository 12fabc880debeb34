"""Who pays when a step fails, and how it all ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.errors import BatcherClosed, DispatcherDied, ModelError, OutOfMemory
from carpool.signals.llm_events import StepFailed
from tests.llm.fake_runner import EOS, FakeRunner, expected, tokens
from tests.llm.stepping import Bench

if TYPE_CHECKING:
    from carpool.llm.runner import StepBatch

PROMPT = tokens("hello there")


def _poison(token: int, error: BaseException) -> FakeRunner:
    """Make a runner that fails on every step that has a token."""

    def check(batch: StepBatch) -> None:
        if token in batch.token_ids:
            raise error

    return FakeRunner(before=check)


def test_step_that_raises_fails_only_the_guilty(caplog: pytest.LogCaptureFixture) -> None:
    """The others of the step have what they would have had."""
    bench = Bench(_poison(EOS + 1, ValueError("no such token")), token_budget=16)
    prompts = [tokens("ab"), [3, EOS + 1], tokens("cd"), tokens("ef")]
    asked = [bench.submit(prompt) for prompt in prompts]
    bench.run()
    assert asked[1].reason() == "error"
    error = asked[1].outputs[-1].error
    assert isinstance(error, ModelError)
    assert str(error) == "the model raised ValueError: no such token"
    for place in (0, 2, 3):
        assert asked[place].token_ids() == expected(prompts[place], 6)
    assert len(bench.diary.of(StepFailed)) == 1
    assert "a step of 4 sequences failed" in caplog.text


def test_runner_that_fails_on_everything_is_not_called_for_every_sequence() -> None:
    """A few failures in a row are enough; the next generation is tried anew."""
    bench = Bench(num_slots=64, token_budget=64)

    def fail(batch: StepBatch) -> None:
        raise RuntimeError("it is broken")

    bench.runner.before = fail
    asked = [bench.submit([place % EOS]) for place in range(64)]
    num_steps = bench.run()
    assert [one.reason() for one in asked] == ["error"] * 64
    assert bench.runner.num_runs < 16 * num_steps < 64
    bench.runner.before = lambda batch: None
    again = bench.submit(PROMPT)
    bench.run()
    assert again.token_ids() == expected(PROMPT, 6)


def test_out_of_memory_runs_in_smaller_pieces_and_fails_nobody() -> None:
    """What fits is remembered: later steps do not fail."""

    def check(batch: StepBatch) -> None:
        if batch.num_tokens > 5:
            raise MemoryError("too much")

    bench = Bench(FakeRunner(before=check), token_budget=32)
    prompts = [tokens("a long prompt is here"), tokens("and"), tokens("another one here")]
    asked = [bench.submit(prompt, prompt_logprobs=0) for prompt in prompts]
    bench.run()
    for prompt, one in zip(prompts, asked, strict=True):
        assert one.token_ids() == expected(prompt, 6)
        records = one.outputs[0].prompt_logprobs
        assert [record and record.token for record in records] == [None, *prompt[1:]]
    num_failed = len(bench.diary.of(StepFailed))
    assert num_failed >= 1
    bench.submit(tokens("a prompt that comes later"))
    bench.run()
    assert len(bench.diary.of(StepFailed)) == num_failed


def test_token_that_does_not_fit_alone_fails_its_sequence() -> None:
    """There is nothing smaller to try; the others go on."""
    bench = Bench(_poison(EOS + 1, MemoryError("too much")))
    asked, other = bench.submit([1, EOS + 1]), bench.submit(tokens("ab"))
    bench.run()
    assert isinstance(asked.outputs[-1].error, OutOfMemory)
    assert other.token_ids() == expected(tokens("ab"), 6)


def test_fault_in_choosing_fails_those_that_took_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner did its part, and is not called again."""
    bench = Bench()
    asked = bench.submit(PROMPT, logprobs=0)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr("carpool.llm.execute.sample", fail)
    bench.run()
    assert str(asked.outputs[-1].error) == "choosing tokens raised ZeroDivisionError: no"


# --------------------------------------------------------------------------------------------------- the end


def test_closing_refuses_what_comes_and_finishes_what_is_there() -> None:
    """Nothing that was accepted is lost."""
    bench = Bench()
    asked = bench.submit(PROMPT)
    bench.stepper.close()
    with pytest.raises(BatcherClosed, match="shutting down"):
        bench.submit(PROMPT)
    bench.run()
    assert asked.reason() == "length"
    assert not bench.stepper.await_work()


def test_abandoning_tells_everyone_why() -> None:
    """Whether they run or wait."""
    bench = Bench(num_slots=1)
    asked = [bench.submit(PROMPT), bench.submit(PROMPT, n=2)]
    bench.step()
    bench.stepper.abandon(BatcherClosed("closed too soon"))
    ends = [output for one in asked for output in one.outputs if output.finish_reason]
    assert [str(output.error) for output in ends] == ["closed too soon"] * 3
    assert [output.finish_reason for output in ends] == ["abort"] * 3
    assert not bench.step()


def test_fault_of_the_engine_itself_is_told_to_all_and_to_who_comes() -> None:
    """Nobody is left waiting."""
    bench = Bench()
    asked = bench.submit(PROMPT)
    bench.stepper.die(ZeroDivisionError("a bug"))
    assert isinstance(asked.outputs[-1].error, DispatcherDied)
    assert asked.reason() == "error"
    with pytest.raises(DispatcherDied, match="ZeroDivisionError: a bug"):
        bench.submit(PROMPT)
    assert not bench.stepper.await_work()
