"""Chains of models: each step with its own batches, one deadline for all."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from carpool.core import Policy
from carpool.errors import CarpoolError
from carpool.models.target import wrap
from carpool.serve.call import CallOptions, Outcome
from carpool.serve.faults import Fault
from carpool.serve.offer import Offer
from carpool.serve.pipeline import Pipeline
from carpool.serve.served import Served
from carpool.serve.source import Blueprint, Named, Sheet
from tests.serve.repositories import offer_of, write_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path


class Read:
    """Texts to numbers; can be held back."""

    examples = ("1", "22")

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.sizes: list[int] = []

    def check(self, text: str) -> None:
        """Refuse what is no number."""
        if not text.isdigit():
            message = f"{text!r} is no number"
            raise ValueError(message)

    def __call__(self, texts: list[str]) -> list[float]:
        """Read them, once the gate is open."""
        self.entered.set()
        self.gate.wait(30)
        self.sizes.append(len(texts))
        return [float(text) for text in texts]


def double(numbers: list[float]) -> list[float]:
    """Double numbers; fail on 13."""
    if 13.0 in numbers:
        message = "13 brings bad luck"
        raise RuntimeError(message)
    return [2 * number for number in numbers]


def say(numbers: list[float]) -> list[str]:
    """Put numbers into words."""
    return [f"it is {number:g}" for number in numbers]


double.examples = say.examples = [1.0, 2.0]  # type: ignore[attr-defined]


class Chain:
    """A source with a pipeline `p` of a step of its own, a model `double`, and another step of its own."""

    def __init__(self) -> None:
        self.read = Read()
        self.steps = {"p.read": self.read, "double": double, "p.say": say}

    def names(self) -> list[str]:
        """Name them all."""
        return ["p", *self.steps]

    def sheet(self, name: str, config: Any = None) -> Sheet | None:
        """Return the blueprint of one."""
        del config
        if name == "p":
            steps = tuple(self.steps)
            return Sheet(versions=(Blueprint("p", "1", self.chain, policy=Policy(), files=None, steps=steps),))
        policy = Policy(max_batch_size=4 if name == "p.read" else 32)

        def build(_others: Named) -> Served:
            return Served(wrap(self.steps[name], name), name=name, policy=policy)

        return Sheet(versions=(Blueprint(name, "1", build, policy=policy),)) if name in self.steps else None

    def chain(self, others: Named) -> Served:
        """Build the pipeline."""
        steps = [(name, "1" if name.startswith("p.") else "") for name in self.steps]
        return Pipeline(others, name="p", steps=steps, request_timeout_s=20.0)


@asynccontextmanager
async def offering() -> AsyncIterator[tuple[Offer, Read]]:
    """Offer the pipeline; give the model of its first step too."""
    source = Chain()
    offer = Offer(source, drain_timeout_s=10.0)
    await asyncio.to_thread(offer.start)
    try:
        yield offer, source.read
    finally:
        source.read.gate.set()
        await asyncio.to_thread(offer.close, 10.0)


async def until(wanted: Callable[[], bool]) -> None:
    """Let the loop and the threads go on until something is so."""
    while not wanted():  # noqa: ASYNC110 - it is for other threads
        await asyncio.sleep(0)


async def ask(offer: Offer, *texts: str, **options: Any) -> list[Any]:
    """Ask the pipeline."""
    return (await offer.named("p").call(list(texts), CallOptions(**options))).results


async def held_at(read: Read, offer: Offer, *texts: str) -> asyncio.Task[list[Any]]:
    """Ask the pipeline, and return once a step's model is held at its gate."""
    read.gate.clear()
    read.entered.clear()  # it ran its examples
    held = asyncio.create_task(ask(offer, *texts))
    await until(read.entered.is_set)
    return held


async def refusal(offer: Offer, *texts: str, **options: Any) -> Fault:
    """Return what a request is refused with."""
    with pytest.raises(Fault) as caught:
        await ask(offer, *texts, **options)
    return caught.value


async def test_what_one_step_gives_the_next_one_takes() -> None:
    """Under one name, with the signature of its ends; its own steps are models too."""
    async with offering() as (offer, _read):
        assert await ask(offer, "1", "20", "3") == ["it is 2", "it is 40", "it is 6"]
        assert offer.names() == ("double", "p", "p.read", "p.say")
        signature = offer.named("p").signature
        assert signature.inputs == offer.named("p.read").signature.inputs
        assert signature.outputs == offer.named("p.say").signature.outputs
        assert (await offer.named("p.say").call([5.0], CallOptions())).results == ["it is 5"]


async def test_each_step_has_its_own_batches_and_policy() -> None:
    """Nine requests that come together run in fours in the first step; the figures are by step."""
    async with offering() as (offer, read):
        before = {key: batcher.metrics.totals().num_items for key, batcher in offer.batchers().items()}
        read.gate.clear()
        asked = [asyncio.create_task(ask(offer, str(number))) for number in range(9)]
        await until(lambda: offer.named("p.read").batcher.num_waiting >= 5)
        read.gate.set()
        assert [(await one)[0] for one in asked] == [f"it is {2 * number}" for number in range(9)]
        assert sorted(read.sizes[-3:]) == [1, 4, 4]
        after = {key: batcher.metrics.totals().num_items for key, batcher in offer.batchers().items()}
        assert {key: after[key] - before[key] for key in after} == {
            ("double", "1"): 9, ("p.read", "1"): 9, ("p.say", "1"): 9,
        }  # fmt: skip
        assert offer.rollout("p.read").policy.max_batch_size == 4
        with pytest.raises(Fault, match=r"'p' is a pipeline: its steps p.read, double, p.say have policies"):
            offer.rollout("p")


async def test_an_error_names_the_step_and_the_row() -> None:
    """With the status that it has there."""
    async with offering() as (offer, _read):
        refused = await refusal(offer, "1", "x")
        assert (refused.status, str(refused)) == (
            400,
            "step 'p.read' of 'p': item 1 of 2: p.read refuses this item: 'x' is no number",
        )
        failed = await refusal(offer, "13")
        assert failed.status == 500
        assert str(failed).startswith("step 'double' of 'p': the model raised RuntimeError: 13 brings bad luck")


async def test_one_that_fails_in_a_step_fails_alone() -> None:
    """Those that shared its batches are answered."""
    async with offering() as (offer, read):
        read.gate.clear()
        texts = ["1", "13", "2", "3"]
        asked = [asyncio.create_task(ask(offer, text)) for text in texts]
        await until(lambda: offer.named("p.read").batcher.num_waiting >= 3)
        read.gate.set()
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [isinstance(answer, Fault) for answer in answers] == [False, True, False, False]
        assert [answer for answer in answers if not isinstance(answer, BaseException)] == [
            ["it is 2"], ["it is 4"], ["it is 6"],
        ]  # fmt: skip


async def test_a_pipeline_has_figures_from_end_to_end() -> None:
    """Of whole requests: what any step refuses or fails has failed; its steps keep their own."""
    async with offering() as (offer, read):
        held = await held_at(read, offer, "1", "2")
        read.gate.set()
        assert await held == ["it is 2", "it is 4"]
        await refusal(offer, "13")
        await refusal(offer, "1", "x")
        pipeline = offer.named("p")
        stats = pipeline.statistics.freeze("p", "1").inference_stats
        assert (stats.success.count, stats.fail.count, stats.queue.count) == (2, 3, 0)
        ends = offer.pipelines()["p", "1"].ends.freeze()
        assert (ends.num_items, ends.num_failed, ends.latency_s.cumulative()[-1]) == (5, 3, 2)
        assert ends.latency_s.total == pytest.approx(stats.success.ns / 1e9)
        step = offer.named("p.say").statistics.freeze("p.say", "1").inference_stats
        assert (step.success.count, step.queue.count) == (2, 2)


async def test_a_request_that_is_withdrawn_has_failed_and_was_not_answered() -> None:
    """In the protocol's statistics it is given up; on the metrics page it is the step that dropped it."""
    async with offering() as (offer, read):
        held = await held_at(read, offer, "1")
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        assert offer.named("p").statistics.freeze("p", "1").inference_stats.fail.count == 1
        assert offer.pipelines()["p", "1"].ends.freeze().num_items == 0


async def test_the_deadline_is_for_all_steps_together() -> None:
    """What is left after one step is what the next one has; what passes while it waits names the step."""
    async with offering() as (offer, read):
        held = await held_at(read, offer, "1")
        late = await refusal(offer, "2", timeout_s=0.05)
        assert (late.status, str(late).startswith("step 'p.read' of 'p': the deadline ")) == (504, True)
        read.gate.set()
        assert await held == ["it is 2"]


async def test_a_request_that_is_withdrawn_leaves_the_step_that_it_waits_in() -> None:
    """Nothing more is computed for it."""
    async with offering() as (offer, read):
        outcomes: list[Outcome] = []
        held = await held_at(read, offer, "1")
        ticket = offer.named("p").submit(["2"], CallOptions(), outcomes.append)
        first = offer.named("p.read").batcher
        await until(lambda: first.num_waiting > 0)
        ticket.cancel()
        await until(lambda: not first.num_waiting)
        read.gate.set()
        assert await held == ["it is 2"]
        assert (outcomes, offer.named("p").num_admitting) == ([], 0)


async def test_an_answer_that_is_submitted_for_comes_on_the_loop() -> None:
    """Once, with one result a row, or with what went wrong."""
    async with offering() as (offer, _read):
        for texts in (["3"], ["x"]):
            answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            ticket = offer.named("p").submit(texts, CallOptions(), answered.set_result)
            outcome = await answered
            assert isinstance(outcome, CarpoolError) if texts == ["x"] else outcome == ["it is 6"]
            assert ticket.lengths == (() if texts == ["x"] else (1,))


async def test_a_pipeline_is_ready_when_its_steps_are() -> None:
    """One that is unloaded is named; when it is back, so is the pipeline; a step loaded anew is used at once."""
    async with offering() as (offer, _read):
        assert offer.named("p").ready
        await offer.unload("double")
        assert not offer.named("p").ready
        refused = await refusal(offer, "1")
        assert (refused.status, str(refused).startswith("step 'double' of 'p': the model 'double' is unl")) == (
            404,
            True,
        )
        with pytest.raises(Fault, match="step 'double' of 'p'") as caught:
            offer.named("p").check_ready()
        assert caught.value.status == 503
        await offer.load("double")
        assert await ask(offer, "4") == ["it is 8"]


async def test_a_pipeline_with_a_step_that_is_not_there_can_not_be_loaded(tmp_path: Path) -> None:
    """Nor with another pipeline as a step; the message names it."""
    write_entry(tmp_path, "m")
    for name, step in (("a", "nothing"), ("b", "c"), ("c", "m"), ("d", "d")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "carpool.toml").write_text(f'[pipeline]\nsteps = ["{step}"]\n')
    offer = offer_of(tmp_path, server__num_loading=1)
    await asyncio.to_thread(offer.start)
    reasons = {state.name: state.reason for state in offer.index() if state.reason}
    assert reasons["a"].startswith("step 'nothing' of 'a': there is no model 'nothing' here")
    assert reasons["b"].startswith("step 'c' of 'b': ")
    assert reasons["d"] == "the pipeline 'd' names itself among its steps: give it another name"
    await offer.reload()
    reasons = {state.name: state.reason for state in offer.index() if state.reason}
    assert reasons["b"] == "step 'c' of 'b': 'c' is a pipeline itself: name its steps instead"
    offer.close(5.0)
