"""Fairness between the tenants of an LLM engine."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.core.continuous import Continuous
from carpool.core.cost import LinearStepTime
from carpool.core.fairness import StepShares
from carpool.core.sequence import Sequence
from carpool.core.step_policy import StepPolicy
from tests.core.fake_llm import FakeLM, Loop

BLOCK_SIZE, NUM_BLOCKS, LONGEST_PROMPT = 4, 24, 24


class Tenants:
    """Tenants who always have more sequences waiting than can enter, and what each of them has had.

    Args:
        kinds: by tenant, the (prompt, generated) tokens of its sequences, one after another, over and over.
        weights: of the tenants.
        num_slots: sequences that run at a time.
    """

    def __init__(self, kinds: dict[str, list[tuple[int, int]]], weights: dict[str, float], num_slots: int = 4) -> None:
        policy = StepPolicy(num_slots=num_slots, token_budget=16, block_size=BLOCK_SIZE, tenant_weights=weights)
        engine = Continuous(policy, num_blocks=NUM_BLOCKS, max_length=64)
        self.loop = Loop(engine, FakeLM(BLOCK_SIZE), LinearStepTime(step_s=0.01))
        self.weights = weights
        self.num_slots = num_slots
        self.kinds = {tenant: itertools.cycle(own) for tenant, own in kinds.items()}
        self.num_waiting: Counter[str] = Counter()
        self.computed: dict[Sequence, int] = {}  # the most tokens of each that have been: again does not count
        self.service: Counter[str] = Counter()

    def send(self, tenant: str) -> None:
        """Let a tenant send its next sequence."""
        num_prompt, count = next(self.kinds.get(tenant, itertools.cycle([(8, 8)])))
        tokens = [len(self.computed) % 251, *[1] * (num_prompt - 1)]
        sequence = Sequence(tokens=tokens, max_new_tokens=count, tenant=tenant, arrived_at=self.loop.now)
        self.computed[sequence] = 0
        self.num_waiting[tenant] += 1
        self.loop.engine.add(sequence, self.loop.now)

    def step(self) -> None:
        """Run a step with everybody waiting before it; count what each got."""
        for tenant in self.kinds:
            while self.num_waiting[tenant] <= self.num_slots:
                self.send(tenant)
        plan = self.loop.step()
        assert plan is not None
        for sequence, _, _, _ in plan.chunks:
            if not self.computed[sequence]:
                self.num_waiting[sequence.tenant] -= 1
            more = max(0, sequence.num_computed - self.computed[sequence])
            self.computed[sequence] += more
            self.service[sequence.tenant] += more

    def spread(self) -> float:
        """Return how far apart those are that have had most and least for their weight."""
        shares = [self.service[tenant] / self.weights.get(tenant, 1.0) for tenant in self.kinds]
        return max(shares) - min(shares)


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.fixed_dictionaries(
        {
            tenant: st.lists(st.tuples(st.integers(1, LONGEST_PROMPT), st.integers(1, 30)), min_size=1, max_size=4)
            for tenant in "abc"
        }
    ),
    weights=st.sampled_from([{}, {"a": 2.0}, {"a": 0.5, "b": 3.0}]),
)
def test_tenants_who_always_wait_have_had_nearly_the_same(
    kinds: dict[str, list[tuple[int, int]]], weights: dict[str, float]
) -> None:
    """At every instant, however their sequences differ: the bound is 2 max(longest prompt, tokens in the cache).

    Source: theorem 4.4 of Sheng et al. 2024, "Fairness in Serving Large Language Models", with costs of 1 for prompts
    and generated tokens alike.
    """
    tenants = Tenants(kinds, weights)
    bound = 2 * max(LONGEST_PROMPT, NUM_BLOCKS * BLOCK_SIZE) / min([1.0, *weights.values()])
    for _ in range(120):
        tenants.step()
        assert tenants.spread() <= bound


def test_double_weight_gets_double_service() -> None:
    """In tokens, not in sequences: one sends long prompts, the other has long answers."""
    tenants = Tenants({"a": [(24, 2)], "b": [(2, 24)]}, {"a": 2.0})
    for _ in range(2000):
        tenants.step()
    assert tenants.service["a"] / tenants.service["b"] == pytest.approx(2.0, rel=0.02)


def test_a_tenant_that_comes_late_is_level_with_the_others() -> None:
    """It neither makes up for what it did not ask for, nor waits for others to be through."""
    tenants = Tenants({"a": [(8, 8)], "b": [(8, 8)]}, {}, num_slots=2)
    for _ in range(500):
        tenants.step()
    tenants.kinds["late"] = itertools.cycle([(8, 8)])
    before = Counter(tenants.service)
    for _ in range(300):
        tenants.step()
    gained = {tenant: tenants.service[tenant] - before[tenant] for tenant in tenants.kinds}
    assert max(gained.values()) - min(gained.values()) <= 2 * NUM_BLOCKS * BLOCK_SIZE


def test_one_tenant_alone_is_not_held_back() -> None:
    """Where nobody else waits there is nothing to share."""
    tenants = Tenants({"a": [(8, 8)]}, {"a": 0.01}, num_slots=4)
    for _ in range(20):
        tenants.step()
    assert tenants.loop.engine.num_running == 4


def test_accounts_are_closed_when_nobody_waits_or_runs() -> None:
    """Old service means nothing once there is no contention, and need not be kept."""
    tenants = Tenants({"a": [(8, 8)]}, {})
    tenants.step()
    tenants.loop.run()
    assert tenants.loop.engine._shares.served("a") > 0.0
    tenants.send("b")
    assert tenants.loop.engine._shares.served("a") == 0.0


def test_many_tenants_all_get_their_turn() -> None:
    """With more of them than slots, and a flood from one."""
    tenants = Tenants({f"tenant {number}": [(4, 4)] for number in range(12)} | {"flood": [(20, 20)]}, {}, num_slots=3)
    for _ in range(1500):
        tenants.step()
    assert tenants.spread() <= 2 * NUM_BLOCKS * BLOCK_SIZE


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["step", "start", "stop", "charge", "lift"])), max_size=60
    )
)
def test_counters_are_what_counting_each_token_gives(events: list[tuple[str, str]]) -> None:
    """Computed when somebody asks, they are the same as if every step had been counted for every sequence."""
    weights = {"a": 2.0}
    shares, counted, running = StepShares(weights), {"a": 0.0, "b": 0.0}, {"a": 0, "b": 0}
    for tenant, event in events:
        if event == "step":
            shares.step()
            counted = {name: value + running[name] / weights.get(name, 1.0) for name, value in counted.items()}
        elif event == "start" or (event == "stop" and running[tenant]):
            change = 1 if event == "start" else -1
            shares.generates(tenant, change)
            running[tenant] += change
        elif event == "charge":
            shares.charge(tenant, 3.0)
            counted[tenant] += 3.0 / weights.get(tenant, 1.0)
        elif event == "lift":
            level = max(counted.values())
            shares.lift(tenant, level)
            counted[tenant] = level
        assert {name: shares.served(name) for name in counted} == pytest.approx(counted)
