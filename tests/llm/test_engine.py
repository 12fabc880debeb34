"""The live engine: a thread, outputs on the event loop, supervision, and the end."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from carpool.core.step_policy import StepPolicy
from carpool.errors import BatcherClosed, ConfigError, DispatcherDied, ModelError, ModelHung, TargetError
from carpool.llm.constraint import Constraint
from carpool.llm.consumer import LoopConsumer, QueueConsumer
from carpool.llm.engine import Engine
from carpool.llm.request import Generation
from carpool.llm.sampling_params import SamplingParams
from tests.llm.fake_runner import EOS, FakeRunner, expected, parts, tokens
from tests.llm.stepping import Diary
from tests.runtime.fakes import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.llm.outputs import Output
    from carpool.llm.runner import StepBatch

PROMPT = tokens("hello there")
POLICY = StepPolicy(num_slots=64, token_budget=128, max_waiting=4096)


def _engine(runner: FakeRunner | None = None, **options: Any) -> Engine:
    made = runner or FakeRunner()
    return Engine(lambda: parts(made), **{"policy": POLICY, **options})


def _generation(prompt: list[int] | None = None, **params: Any) -> Generation:
    sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 6, **params})
    return Generation(prompt=tuple(prompt or PROMPT), params=sampling)


def _waiting(gate: threading.Event) -> Callable[[StepBatch], None]:
    """Make each step wait at a gate."""

    def wait(batch: StepBatch) -> None:
        gate.wait(10)

    return wait


async def _stream(engine: Engine, generation: Generation) -> list[int]:
    """Generate, and return the tokens."""
    ended = asyncio.get_running_loop().create_future()
    token_ids: list[int] = []

    def take(output: Output) -> None:
        token_ids.extend(output.token_ids)
        if output.finish_reason is not None and not ended.done():
            ended.set_result(output)

    handle = engine.submit(generation, take)
    try:
        output = await ended
    except asyncio.CancelledError:
        handle.cancel()
        raise
    if output.error is not None:
        raise output.error
    return token_ids


async def test_many_streams_are_answered_on_the_event_loop() -> None:
    """Each with its own tokens; the model is only ever touched by one thread."""
    runner = FakeRunner(num_blocks=256)
    async with _engine(runner) as engine:
        prompts = [[place % EOS, place // EOS] for place in range(100)]
        answers = await asyncio.gather(*(_stream(engine, _generation(prompt)) for prompt in prompts))
        assert answers == [expected(prompt, 6) for prompt in prompts]
        assert engine.ready
        assert engine.metrics.totals().endings == {"length": 100}
        engine.check_integrity()
    assert len(runner.threads) == 1
    assert not engine.accepts or engine.num_running == 0


async def test_event_loop_is_woken_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many streams get a token."""
    woken: list[None] = []
    loop = asyncio.get_running_loop()
    call_soon = loop.call_soon_threadsafe

    def counting(*args: Any) -> Any:
        woken.append(None)
        return call_soon(*args)

    async with _engine() as engine:
        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        await asyncio.gather(*(_stream(engine, _generation([place])) for place in range(20)))
        monkeypatch.undo()
        assert len(woken) <= engine.metrics.totals().num_steps


async def test_time_of_steps_is_learned_and_held_against_what_they_take() -> None:
    """Where no profile says it."""
    async with _engine() as engine:
        await asyncio.gather(*(_stream(engine, _generation([place], max_tokens=60)) for place in range(4)))
        totals = engine.metrics.totals()
        assert totals.prediction.num_values > 0
        assert totals.predicted_s > 0


async def test_idle_engine_uses_no_processor_time() -> None:
    """Nothing polls: its thread sleeps until somebody submits."""
    diary = Diary()
    async with _engine(sink=diary) as engine:
        await _stream(engine, _generation())
        before, thread = time.process_time(), engine._thread
        assert thread is not None
        await asyncio.sleep(0.3)
        assert time.process_time() - before < 0.1
        num_events = len(diary.events)
        await asyncio.sleep(0)
        assert len(diary.events) == num_events


async def test_disconnects_leave_nothing_behind() -> None:
    """A thousand streams, of which half go away at some time: no block, no sequence and no task is left."""
    chance = random.Random(5)
    runner = FakeRunner(num_blocks=150)
    async with _engine(runner) as engine:
        before = len(asyncio.all_tasks())

        async def visit(place: int) -> bool:
            prompt = [chance.randrange(EOS) for _ in range(chance.randrange(1, 30))]
            task = asyncio.create_task(_stream(engine, _generation(prompt, max_tokens=chance.randrange(1, 20))))
            await asyncio.sleep(0)
            if place % 2:
                return bool(await task)
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0.001)
            task.cancel()
            return bool(await asyncio.gather(task, return_exceptions=True))

        assert all(await asyncio.gather(*(visit(place) for place in range(1000))))
        assert (engine.num_running, engine.num_waiting, engine.usage) == (0, 0, 0.0)
        engine.check_integrity()
        assert len(asyncio.all_tasks()) == before
        totals = engine.metrics.totals()
        assert sum(totals.endings.values()) == 1000


async def test_cancel_frees_the_slot_before_the_next_step() -> None:
    """And no more output comes, not even one that was on its way."""
    outputs: list[Output] = []
    gate = threading.Event()
    at_gate = threading.Event()

    def wait(batch: StepBatch) -> None:
        at_gate.set()
        gate.wait(10)

    async with _engine(FakeRunner(before=wait), policy=StepPolicy(num_slots=1, token_budget=64)) as engine:
        handle = engine.submit(_generation(), outputs.append)
        other = asyncio.create_task(_stream(engine, _generation(tokens("b"))))
        await asyncio.to_thread(at_gate.wait, 10)
        handle.cancel()
        handle.cancel()
        assert (engine.num_running, engine.usage) == (0, 0.0)
        gate.set()
        assert await other == expected(tokens("b"), 6)
    assert outputs == []


def test_thread_takes_outputs_from_a_queue() -> None:
    """Without any event loop."""
    outputs: list[Output] = []
    consumer = QueueConsumer()
    with _engine() as engine:
        engine.submit(_generation(), outputs.append, consumer=consumer)
        while not (outputs and outputs[-1].finish_reason):
            consumer.run_next()
    assert [token for output in outputs for token in output.token_ids] == expected(PROMPT, 6)


def test_submission_without_a_place_for_outputs_is_refused() -> None:
    """Nobody would take them."""
    with _engine() as engine, pytest.raises(ConfigError, match="where no event loop runs"):
        engine.submit(_generation(), lambda output: None)


async def test_closed_loop_takes_nothing() -> None:
    """The engine is told, and gives the generation up."""
    loop = asyncio.new_event_loop()
    consumer = LoopConsumer(loop)
    loop.close()
    assert not consumer.post(lambda: None)
    async with _engine() as engine:
        engine.submit(_generation(max_tokens=100), lambda output: None, consumer=consumer)
        assert await _stream(engine, _generation()) == expected(PROMPT, 6)
    assert engine.metrics.totals().endings == {"abort": 1, "length": 1}


async def test_constraint_is_read_ahead() -> None:
    """So that `submit` does not hold up the event loop; one that can't be read is refused."""
    async with _engine() as engine:
        await asyncio.to_thread(engine.compile, Constraint.choice(["yes", "no"]))
        answer = await _stream(engine, _generation(constraint=Constraint.choice(["yes", "no"])))
    assert answer in (tokens("yes"), tokens("no"))


# ------------------------------------------------------------------------------------------- start, failure, end


def test_model_that_cannot_be_loaded_is_told_by_start() -> None:
    """As it is, where it is one of our errors; else as a failure of the model's."""

    def refuse() -> Any:
        raise TargetError("no such model")

    def fail() -> Any:
        raise ZeroDivisionError("oops")

    with pytest.raises(TargetError, match="no such model"):
        Engine(refuse).start()
    engine = Engine(fail)
    with pytest.raises(ModelError, match="ZeroDivisionError: oops"):
        engine.start()
    assert not engine.ready
    assert isinstance(engine.failure, ModelError)
    with pytest.raises(ModelError, match="oops"):
        engine.submit(_generation(), lambda output: None)


def test_runner_that_cannot_warm_up_is_told_by_start() -> None:
    """It is warmed up before anybody waits for it."""

    class Cold(FakeRunner):
        def warm_up(self) -> None:
            raise RuntimeError("too cold")

    with pytest.raises(ModelError, match="too cold"):
        _engine(Cold()).start()


def test_engine_that_does_not_run_takes_nothing() -> None:
    """Neither before its start nor after its end."""
    engine = _engine()
    with pytest.raises(BatcherClosed, match="not running"):
        engine.submit(_generation(), lambda output: None)
    with pytest.raises(BatcherClosed, match="not running"):
        _ = engine.parts
    engine.start()
    engine.start()
    engine.close()
    engine.close()
    with pytest.raises(BatcherClosed, match="shutting down"):
        engine.submit(_generation(), lambda output: None, consumer=QueueConsumer())


async def test_closing_finishes_what_was_accepted() -> None:
    """Nothing is cut off."""
    engine = await _engine().__aenter__()
    streams = [asyncio.create_task(_stream(engine, _generation([place]))) for place in range(10)]
    await asyncio.sleep(0)
    await asyncio.to_thread(engine.close)
    assert await asyncio.gather(*streams) == [expected([place], 6) for place in range(10)]


async def test_closing_in_haste_tells_those_who_still_wait() -> None:
    """Once the time is over."""
    gate = threading.Event()
    engine = await _engine(FakeRunner(before=_waiting(gate))).__aenter__()
    stream = asyncio.create_task(_stream(engine, _generation()))
    await asyncio.sleep(0)
    closing = asyncio.create_task(asyncio.to_thread(engine.close, 0.05))
    with pytest.raises(BatcherClosed, match="not enough to finish"):
        await stream
    gate.set()
    await closing


async def test_step_that_hangs_is_reported_as_trouble_until_it_is_done() -> None:
    """Whoever asks whether the engine is ready learns why it is not."""
    gate = threading.Event()
    runner = FakeRunner(before=_waiting(gate))
    async with _engine(runner, step_timeout_s=0.02) as engine:
        assert engine.trouble is None
        stream = asyncio.create_task(_stream(engine, _generation()))
        await until(lambda: engine.trouble)
        assert isinstance(engine.trouble, ModelHung)
        assert "longer than step_timeout, 20 ms" in str(engine.trouble)
        assert not engine.ready
        assert engine.accepts
        gate.set()
        assert await stream == expected(PROMPT, 6)
        await until(lambda: engine.ready)
        assert engine.trouble is None


async def test_fault_of_the_engine_itself_is_told_to_all(caplog: pytest.LogCaptureFixture) -> None:
    """Those who wait and those who come; readiness goes."""

    class Broken:
        def record(self, event: object, /) -> None:
            raise ZeroDivisionError("a broken sink")

    async with _engine() as engine:
        engine.sinks.add(Broken())
        with pytest.raises(DispatcherDied, match="a broken sink"):
            await _stream(engine, _generation(max_tokens=50))
        assert not engine.ready
        assert isinstance(engine.failure, DispatcherDied)
        with pytest.raises(DispatcherDied):
            engine.submit(_generation(), lambda output: None)
    assert "the engine stops" in caplog.text


def test_engine_closed_while_it_loads_never_runs() -> None:
    """Whoever waits in start() is told."""
    gate = threading.Event()
    caught: list[BaseException] = []

    def load() -> Any:
        gate.wait(10)
        return parts(FakeRunner())

    engine = Engine(load)

    def start() -> None:
        try:
            engine.start()
        except BatcherClosed as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    while engine._thread is None:
        time.sleep(0.001)
    engine.close()
    thread.join(10)
    gate.set()
    assert "before its model was loaded" in str(caught[0])
    assert not engine.ready
