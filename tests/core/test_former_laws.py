"""The laws of batch forming, under any sequence of events."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carpool.core import AffineCost, Batch, BatchFormer, Dispatch, Fault, Item, Policy, Wait
from carpool.errors import DeadlineExceeded, QueueFull, Rejected
from tests.core.strategies import costs, items, policies


class FormerMachine(RuleBasedStateMachine):
    """Adds, cancels, runs, fails and expires items in any order; each accepted item must end exactly once."""

    @initialize(policy=policies(), cost=costs, num_workers=st.integers(1, 3), poisonous=st.integers(0, 64))
    def start(self, policy: Policy, cost: AffineCost, num_workers: int, poisonous: int) -> None:
        """Begin with nothing."""
        self.former = BatchFormer(policy, cost, num_workers=num_workers)
        self.former.budget.ceiling.patience = 1  # so that it rises within the few steps of an example
        self.policy, self.num_workers, self.poisonous = policy, num_workers, poisonous
        self.now = 0.0
        self.accepted: list[Item] = []
        self.ended: list[Item] = []
        self.running: list[Batch] = []

    @rule(seconds=st.floats(0.0, 0.5))
    def let_time_pass(self, seconds: float) -> None:
        """Time goes on, and what is late expires."""
        self.now += seconds
        expired = self.former.expire(self.now)
        assert all(item.deadline_at <= self.now for item in expired)
        self.ended += expired

    @rule(data=st.data())
    def add(self, data: st.DataObject) -> None:
        """An item arrives; it is accepted, or refused for a reason that is true."""
        item = data.draw(items(self.now))
        try:
            self.former.add(item, self.now)
        except (QueueFull, DeadlineExceeded) as refusal:
            self.check_refusal(item, refusal)
        else:
            self.accepted.append(item)

    def check_refusal(self, item: Item, refusal: Rejected) -> None:
        """The reason is true, and says when to come back where that is known."""
        assert self.former.is_full if isinstance(refusal, QueueFull) else item.deadline_at < math.inf
        assert refusal.retry_after_s is None or refusal.retry_after_s > 0

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """A client goes away: its item leaves if it waits, and only then."""
        item = data.draw(st.sampled_from(self.accepted))
        in_batch = any(item is member for batch in self.running for member in batch.items)
        over = any(item is other for other in self.ended)
        assert self.former.cancel(item) == (not in_batch and not over)
        if not in_batch and not over:
            self.ended.append(item)

    @precondition(lambda self: len(self.running) < self.num_workers)
    @rule()
    def poll(self) -> None:
        """A worker is free: what it is given keeps every limit, or nothing is worth running yet."""
        self.let_time_pass(0.0)
        answer = self.former.poll(self.now)
        if isinstance(answer, Wait):
            assert answer.until > self.now
            assert self.former.num_waiting == 0 or self.policy.max_wait_s > 0
            assert self.former.num_waiting == 0 or answer.until < math.inf
            return
        assert isinstance(answer, Dispatch)
        self.check_limits(answer.batch)
        self.running.append(answer.batch)

    def check_limits(self, batch: Batch) -> None:
        """No budget is exceeded, and the padding holds every member."""
        assert 1 <= len(batch.items) <= self.policy.max_batch_size
        assert len(batch.items) <= batch.size
        lengths = [item.length for item in batch.items]
        num_tokens = batch.size * batch.length
        if self.policy.ragged:
            num_tokens = sum(lengths)
            assert abs(batch.size * batch.length - num_tokens) <= batch.size / 2 or batch.length == 1
        else:
            assert max(lengths) <= batch.length
        assert num_tokens <= (self.policy.token_budget or math.inf)
        assert num_tokens <= self.former.budget.ceiling.tokens or len(batch.items) == 1
        assert sum(lengths) <= batch.num_tokens

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        """A batch comes back: well, unless a poisonous length is in it."""
        batch = data.draw(st.sampled_from(self.running))
        self.running.remove(batch)
        if any(item.length == self.poisonous for item in batch.items):
            self.ended += self.former.failed(batch, self.now)
        else:
            self.former.succeeded(batch, self.now)
            self.ended += batch.items

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def lose_the_worker(self, data: st.DataObject) -> None:
        """A worker dies: no item is given up at the first time, and later only one that ran alone, or with its kin."""
        batch = data.draw(st.sampled_from(self.running))
        self.running.remove(batch)
        is_first = batch.lineage is None or not batch.lineage.has_lost_worker
        guilty = self.former.failed(batch, self.now, Fault.WORKER)
        assert not (guilty and (is_first or len(batch.items) > 1))
        self.ended += guilty

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def run_out_of_memory(self, data: st.DataObject) -> None:
        """A batch does not fit: only one that held a single item is given up."""
        batch = data.draw(st.sampled_from(self.running))
        self.running.remove(batch)
        guilty = self.former.failed(batch, self.now, Fault.MEMORY)
        assert guilty == (batch.items if len(batch.items) == 1 else []) or batch.lineage
        self.ended += guilty

    @rule(policy=policies())
    def change_policy(self, policy: Policy) -> None:
        """Somebody changes the policy: what waits and runs is kept, and the new limits hold from now on."""
        waited = self.former.num_waiting, self.former.num_running
        self.former.set_policy(policy)
        self.policy = policy
        assert (self.former.num_waiting, self.former.num_running) == waited

    @invariant()
    def nothing_is_lost_or_answered_twice(self) -> None:
        """Accepted items wait, run or have ended, each in one place."""
        if hasattr(self, "former"):
            self.former.check_integrity()
            assert len({id(item) for item in self.ended}) == len(self.ended)
            assert len(self.accepted) == len(self.ended) + self.former.num_waiting + self.former.num_running

    def teardown(self) -> None:
        """Whatever happened, draining answers all that is left."""
        if not hasattr(self, "former"):
            return
        self.former.drain()
        while self.running:
            self.former.succeeded(batch := self.running.pop(), self.now)
            self.ended += batch.items
        while isinstance(answer := self.former.poll(self.now), Dispatch):
            self.former.succeeded(answer.batch, self.now)
            self.ended += answer.batch.items
        assert len(self.ended) == len(self.accepted)


TestFormer = FormerMachine.TestCase
TestFormer.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
