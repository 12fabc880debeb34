"""Policies that are changed while a model runs, and trials that roll themselves back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from carpool.core import Policy
from carpool.errors import ConfigError
from carpool.runtime.batcher import Batcher
from carpool.serve.rollout import Rollout, Surroundings
from carpool.signals.events import BatchRan, ItemDropped, ItemRejected
from tests.serve.test_warm import Padding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RATE = 200.0


@dataclass
class World:
    """A virtual clock; as time passes the traffic's events are recorded, with latencies by the policy in force.

    Args:
        latency_s: seconds that a request takes under a policy.
        rate: requests a second.
        refuses: whether a policy refuses a request in ten.
    """

    latency_s: Callable[[Policy], float]
    rate: float = RATE
    refuses: Callable[[Policy], bool] = lambda _policy: False
    at: float = 1000.0
    batcher: Batcher | None = None
    new_first: bool = False

    def now(self) -> float:
        """Return the virtual time."""
        return self.at

    def draw(self) -> bool:
        """Take turns."""
        self.new_first = not self.new_first
        return self.new_first

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and requests with it."""
        assert self.batcher is not None
        policy = self.batcher.policy
        for number in range(int(seconds * self.rate)):
            arrived_at = self.at + number / self.rate
            self.batcher.sinks.record(self.event(arrived_at, policy, number))
        self.at += seconds
        await asyncio.sleep(0)

    def event(self, arrived_at: float, policy: Policy, number: int) -> Any:
        """Return what becomes of one request."""
        if self.refuses(policy) and number % 10 == 0:
            return ItemRejected(at=arrived_at, reason="queue_full")
        finished_at = arrived_at + self.latency_s(policy) * (1 + 0.3 * (number % 7))
        return BatchRan(
            at=finished_at,
            batch_id=number,
            worker=0,
            reason="idle",
            arrived_at=(arrived_at,),
            lengths=(1,),
            padded_length=1,
            dispatched_at=arrived_at,
            started_at=arrived_at,
            finished_at=finished_at,
        )


@asynccontextmanager
async def rolling_out(world: World, **objectives_s: float) -> AsyncIterator[Rollout]:
    """Run a batcher whose policy may be changed, in a virtual world."""
    with Batcher(lambda batch: batch, max_batch_size=8) as batcher:
        world.batcher = batcher
        surroundings = Surroundings(now=world.now, today=world.now, sleep=world.sleep, draw=world.draw)
        yield Rollout("m", batcher, batcher.policy, objectives_s=objectives_s, world=surroundings)


async def end_of_trial(rollout: Rollout) -> None:
    """Wait until no policy is on trial."""
    for _ in range(10_000):
        if rollout.on_trial is None:
            return
        await asyncio.sleep(0)
    pytest.fail("the trial does not end")


def size(rollout: Rollout) -> int:
    """Return the largest batch that is formed now."""
    return rollout._batcher.policy.max_batch_size


async def test_a_change_is_in_force_at_once_and_is_remembered() -> None:
    """With who asked for what and when; what is not changed stays as it was."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        version = rollout.change({"max_batch_size": 16, "max_wait": "2ms"}, who="ann")
        assert (version.number, version.who, version.at, version.standing) == (2, "ann", 1000.0, "in force")
        assert size(rollout) == 16
        rollout.change({"max_queue": 10})
        assert (size(rollout), rollout.policy.max_wait_s, rollout.policy.max_queue) == (16, 0.002, 10)
        assert [(one.number, one.standing, one.changes) for one in rollout.history] == [
            (1, "replaced", {}),
            (2, "replaced", {"max_batch_size": 16, "max_wait": "2ms"}),
            (3, "in force", {"max_queue": 10}),
        ]


async def test_an_earlier_version_can_be_put_in_force_again() -> None:
    """As a new one, so that the history tells what was when."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        rollout.change({"max_batch_size": 16})
        version = rollout.go_back(1, who="ann")
        assert (version.number, size(rollout)) == (3, 8)
        with pytest.raises(ConfigError, match="version 7 is not remembered: there are 1 to 3"):
            rollout.go_back(7)


@pytest.mark.parametrize(
    ("changes", "options", "said"),
    [
        ({"max_batchsize": 3}, {}, "unknown key 'max_batchsize': did you mean 'max_batch_size'"),
        ({"memory_limit": 1}, {}, "does not predict memory"),
        ({"max_batch_size": 3}, {"share": 0.7}, "share is 0.7; it must be from 0.01 to 0.5"),
        ({"max_batch_size": 3}, {"share": 0.0}, "share is 0.0; it must be from 0.01"),
        ({"max_batch_size": 3}, {"share": 1e-300, "watch_s": 10.0}, "share is 1e-300; it must be from 0.01"),
        ({"max_batch_size": 3}, {"share": 0.5, "watch_s": 1e300}, "watch is 1e\\+300 s; .* at most a week"),
        ({"max_batch_size": 3}, {"watch_s": 0.5}, "watch is 0.5 s; it must be at least 1 s"),
    ],
)
async def test_a_change_that_can_not_be_changes_nothing(
    changes: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """And is not remembered."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        with pytest.raises(ConfigError, match=said):
            rollout.change(changes, **options)
        assert (len(rollout.history), size(rollout)) == (1, 8)


async def test_a_policy_that_is_worse_rolls_itself_back() -> None:
    """The history says what was worse, and by how much."""
    world = World(lambda policy: 0.02 if policy.max_batch_size == 64 else 0.01)
    async with rolling_out(world) as rollout:
        version = rollout.change({"max_batch_size": 64}, share=0.1, watch_s=60.0)
        assert (version.standing, rollout.in_force.number) == ("on trial", 1)
        assert "on trial for 10% of the time" in version.result
        await end_of_trial(rollout)
        after = rollout.history[1]
        assert (after.standing, size(rollout), rollout.in_force.number) == ("rolled back", 8, 1)
        assert "p95 latency was worse in" in after.result
        assert after.figures["p95"][1] == pytest.approx(2 * after.figures["p95"][0], rel=0.05)
        assert world.at < 1060
        assert rollout.count().changes == {"in force": 0, "rolled back": 1}


async def test_a_policy_that_is_no_worse_is_put_in_force_when_the_time_is_up() -> None:
    """The one before is replaced."""
    world = World(lambda policy: 0.01 if policy.max_batch_size == 64 else 0.015)
    async with rolling_out(world) as rollout:
        rollout.change({"max_batch_size": 64}, share=0.5, watch_s=30.0)
        await end_of_trial(rollout)
        assert (size(rollout), rollout.in_force.number, rollout.policy.max_batch_size) == (64, 2, 64)
        assert [one.standing for one in rollout.history] == ["replaced", "in force"]
        assert rollout.in_force.result.startswith("kept: no measure is worse with confidence")
        assert world.at >= 1030


async def test_a_policy_that_refuses_requests_rolls_itself_back() -> None:
    """However fast it answers the others."""
    world = World(lambda policy: 0.005 if policy.max_queue == 1 else 0.01, refuses=lambda policy: policy.max_queue == 1)
    async with rolling_out(world) as rollout:
        rollout.change({"max_queue": 1}, share=0.5)
        await end_of_trial(rollout)
        assert rollout.history[1].standing == "rolled back"
        assert "share missed was worse" in rollout.history[1].result


async def test_a_promise_that_is_kept_is_not_held_against_a_policy() -> None:
    """A policy may use up what the objective leaves."""
    async with rolling_out(World(lambda policy: 0.02 if policy.max_batch_size == 64 else 0.01), p95=0.5) as rollout:
        rollout.change({"max_batch_size": 64}, share=0.5, watch_s=20.0)
        await end_of_trial(rollout)
        assert rollout.in_force.number == 2


async def test_another_change_gives_up_a_trial() -> None:
    """What is in force then is the new one."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        rollout.change({"max_batch_size": 64}, share=0.5)
        await asyncio.sleep(0)
        rollout.change({"max_queue": 5})
        await asyncio.sleep(0)
        assert [one.standing for one in rollout.history] == ["replaced", "rolled back", "in force"]
        assert rollout.history[1].result == "given up, as another change came"
        assert (size(rollout), rollout.policy.max_queue) == (8, 5)


async def test_a_model_that_is_loaded_anew_gives_up_a_trial_and_keeps_the_policy_in_force() -> None:
    """The trial's figures are of another model."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        rollout.change({"max_batch_size": 12})
        rollout.change({"max_batch_size": 64}, share=0.5)
        await asyncio.sleep(0)
        with Batcher(lambda batch: batch, max_batch_size=8) as other:
            rollout.moved(other)
            await end_of_trial(rollout)
            assert other.policy.max_batch_size == 12
        assert rollout.history[2].result == "given up, as the model was loaded anew"


class Packing(Padding):
    """A model that packs, and is best run with so many tokens."""

    @property
    def preferred_tokens(self) -> int | None:
        """Tokens of a batch."""
        return 1024


async def test_the_token_cap_is_told_be_it_the_policy_or_the_model_that_says_so() -> None:
    """A model that does not pack says nothing of it."""
    with Batcher(Packing(ragged=True)) as batcher:
        rollout = Rollout("m", batcher, Policy(max_batch_size=64))
        assert (rollout.policy.token_budget, rollout.token_cap) == (None, 1024)
        rollout.change({"token_budget": 4096})
        assert rollout.token_cap == batcher.policy.token_budget == 4096
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        assert rollout.token_cap is None


async def test_a_file_that_tells_another_policy_wins() -> None:
    """One that tells what it told before does not."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        rollout.change({"max_batch_size": 12})
        rollout.told(rollout.history[0].policy, {})
        assert size(rollout) == 12
        rollout.told(Policy(max_batch_size=5), {"p99": 0.1})
        assert (size(rollout), rollout.in_force.who, rollout.objectives_s) == (5, "file", {"p99": 0.1})


async def test_the_history_is_bounded_and_keeps_what_is_in_force() -> None:
    """A hundred versions."""
    async with rolling_out(World(lambda _policy: 0.01)) as rollout:
        for number in range(150):
            rollout.change({"max_queue": 10 + number})
        assert (len(rollout.history), rollout.in_force.number) == (100, 151)
        assert rollout.count().changes["in force"] == 150


async def test_clients_that_leave_are_held_against_a_policy() -> None:
    """As those that are refused."""
    world = World(lambda _policy: 0.01)
    world.event = lambda arrived_at, policy, number: (  # type: ignore[method-assign]
        ItemDropped(at=arrived_at + 1, arrived_at=arrived_at, cause="cancelled")
        if policy.max_batch_size == 64 and number % 5 == 0
        else World.event(world, arrived_at, policy, number)
    )
    async with rolling_out(world) as rollout:
        rollout.change({"max_batch_size": 64}, share=0.5)
        await end_of_trial(rollout)
        assert rollout.history[1].standing == "rolled back"
