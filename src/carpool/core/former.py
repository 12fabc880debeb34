"""The state machine that forms batches: told what happens, it says what runs next.

Every shell drives this object: the live batcher with threads and a real clock, a simulation with a virtual one. It
holds no clock and does no I/O; every call is given `now`.
"""

import math
from collections.abc import Iterable

from carpool.core.backlog import Backlog
from carpool.core.batch import Batch, Dispatch, Fault, Lineage, Reason, Wait
from carpool.core.budget import Budget
from carpool.core.choose import Choice, choose
from carpool.core.cost import DriftingTimeModel, LearningTimeModel, TimeModel
from carpool.core.forecast import ArrivalForecast
from carpool.core.item import Item, State
from carpool.core.objective_cap import cap_for
from carpool.core.policy import Policy
from carpool.core.queue import ItemQueue
from carpool.core.recovery import Recovery
from carpool.core.refusal import queue_full, too_late


class BatchFormer:
    """Decides which waiting items run together, and when.

    Args:
        policy: the limits.
        cost: predicts how long a batch runs. One that learns is told how long each batch ran.
        num_workers: how many batches can run at a time.

    >>> from carpool.core.cost import AffineCost
    >>> former = BatchFormer(Policy(max_batch_size=2), AffineCost(overhead_s=1.0, token_s=0.1))
    >>> for name in "abc":
    ...     former.add(Item(payload=name), now=0.0)
    >>> dispatch = former.poll(now=0.0)
    >>> [item.payload for item in dispatch.batch.items], str(dispatch.batch.reason)
    (['a', 'b'], 'full')
    """

    def __init__(self, policy: Policy, cost: TimeModel, *, num_workers: int = 1) -> None:
        self.policy = policy
        self.cost = cost
        self.budget = Budget(policy, cost, cap=cap_for(policy.objectives_s, policy.max_batch_size, num_workers))
        self._learning = cost if isinstance(cost, LearningTimeModel) else None
        self._drifting = cost if isinstance(cost, DriftingTimeModel) else None
        self._num_workers = num_workers
        self._queue = ItemQueue(policy)
        self._recovery = Recovery()
        self._backlog = Backlog(num_workers)
        self._forecast = ArrivalForecast(policy.max_wait_s, num_workers)
        self._running: dict[int, Batch] = {}
        self._num_dispatched = 0
        self._draining = False
        self._look_ahead = _look_ahead(policy)
        self._freed_at = -math.inf  # when a worker came free last while none was
        self._held_at = -math.inf  # when a poll last held back what then waited; none since the last dispatch
        self._held_until = -math.inf  # and until when
        self._longest = 1  # of all the items so far
        self._ample_s = math.inf  # a deadline farther away than this is kept however many wait

    @property
    def num_waiting(self) -> int:
        """Accepted items that are not in a batch now."""
        return len(self._queue) + len(self._recovery)

    @property
    def num_running(self) -> int:
        """Items in batches that were dispatched and have not come back."""
        return sum(len(batch.items) for batch in self._running.values())

    @property
    def drift(self) -> tuple[float | None, int]:
        """What batches take lately over what was measured of them, and how many that rests on; None: never measured."""
        return (self._drifting.drift, self._drifting.num_fitted) if self._drifting is not None else (None, 0)

    def profiled_s(self, batch: Batch) -> float | None:
        """Return how long such a batch took when it was measured; None: never measured."""
        return self._drifting.measured.time_s(batch.size, batch.length) if self._drifting is not None else None

    @property
    def is_full(self) -> bool:
        """Whether an item that came now would be refused for want of room."""
        return len(self._queue) >= self.policy.max_queue

    def set_policy(self, policy: Policy) -> None:
        """Form the batches from now on by another policy.

        Nothing that waits or runs is lost: what waits keeps its place, even where the new policy would have refused it,
        and what was learned of memory and of arrivals is kept.

        Raises:
            ConfigError: the policy limits memory, and the cost model does not predict it; the old one stays.
        """
        cap = cap_for(policy.objectives_s, policy.max_batch_size, self._num_workers)
        self.budget = Budget(policy, self.cost, self.budget.ceiling, cap)
        self.policy = policy
        self._queue.set_policy(policy)
        self._forecast.window_s = policy.max_wait_s
        self._look_ahead = _look_ahead(policy)
        self._held_at = -math.inf  # who was held back was so by other rules

    # ------------------------------------------------------------------------------------------------ items

    def add(self, item: Item, now: float) -> None:
        """Accept an item, which then is answered exactly once, or refuse it.

        Raises:
            QueueFull: as many items wait as may.
            DeadlineExceeded: its deadline has passed, or passes before the predicted queue lets it finish.
            InvalidItem: it could not run even alone.
        """
        self.budget.check(item.length)
        if self.budget.cap is not None:
            self.budget.cap.arrived(item.length, now)
        if self.is_full:
            overdue_s = self.full_batch(self._queue.mean_length)[1]  # told where what runs was to be done by now
            wait_s = self.predicted_wait_s(len(self._queue), now) or overdue_s
            raise queue_full(len(self._queue), self.policy.max_queue, wait_s)
        if item.length > self._longest:
            self._longest, self._ample_s = item.length, math.inf
        if item.deadline_at - now < self._ample_s and item.deadline_at < math.inf:
            self._check_deadline(item, now)
        if self.policy.max_wait_s:
            self._forecast.arrived(now)
        self._queue.push(item)

    def _check_deadline(self, item: Item, now: float) -> None:
        num_ahead = self._queue.num_ahead(item)
        batch = self._backlog.batch(self.budget, self._queue.mean_length)
        wait_s = self._backlog.wait_s(num_ahead, self._free_in_s(now), batch)
        if not wait_s and now < item.deadline_at and self._learning is not None:
            return  # nobody is ahead: a model that has learned something too slow must be able to learn better
        margin_s = min(self._backlog.margin_s, wait_s)
        finished_at = now + wait_s + margin_s + self._own_batch_s(item, num_ahead, batch)
        if finished_at > item.deadline_at:
            raise too_late(item.deadline_at - now, finished_at - now, wait_s)
        self._backlog.promise(item, now + wait_s)

    def _own_batch_s(self, item: Item, num_ahead: int, batch: tuple[float, float]) -> float:
        """Return how long the batch takes that an item joins: behind a full one, its own fills up meanwhile."""
        padded = self.budget.padded_length(item.length)
        num_items, batch_s = batch
        if num_ahead >= num_items:
            return max(batch_s, self.budget.time_s(1, padded))
        most, _ = self.budget.most_items(padded)
        return self.budget.time_s(min(num_ahead + 1, most), padded)

    def predicted_wait_s(self, num_ahead: int, now: float) -> float:
        """Return how long an item is predicted to wait behind `num_ahead` others of about the mean waiting length.

        Batches leave one after another as the workers come free; the item joins the first that is not full.
        """
        batch = self._backlog.batch(self.budget, self._queue.mean_length)
        return self._backlog.wait_s(num_ahead, self._free_in_s(now), batch)

    def _free_in_s(self, now: float) -> list[float]:
        """Return the seconds until each worker is free, rising."""
        free_in_s = [max(0.0, b.dispatched_at + b.predicted_s - now) for b in self._running.values()]
        if len(free_in_s) < self._num_workers:
            free_in_s += [0.0] * (self._num_workers - len(free_in_s))
        free_in_s.sort()
        return free_in_s

    def full_batch(self, length: int) -> tuple[float, float]:
        """Return how many items of a length a batch holds while more wait, and the seconds that it is to take."""
        return self._backlog.batch(self.budget, length)

    def hurry(self, item: Item, deadline_at: float, priority: int) -> bool:
        """Let an item that waits be served as one with this deadline and priority, where those are more urgent.

        Returns:
            Whether it waits: one that runs, or has been answered, is left as it is.
        """
        if item.state is not State.WAITING:
            return False
        if deadline_at < item.deadline_at or priority > item.priority:
            self._queue.remove(item)
            item.deadline_at = min(item.deadline_at, deadline_at)
            item.priority = max(item.priority, priority)
            self._queue.push(item)
        return True

    def cancel(self, item: Item) -> bool:
        """Withdraw an item that waits; False when it no longer does.

        One that is running stays in its batch. If that fails, `failed` still hands the item back, or runs it again.
        """
        if item.state not in {State.WAITING, State.AGAIN}:
            return False
        self._remove([item])
        return True

    def expire(self, now: float) -> list[Item]:
        """Take out and return the items whose deadline passed while they waited."""
        expired = self._queue.pop_expired(now)
        if expired:
            _, batch_s = self._backlog.batch(self.budget, self._queue.mean_length)
            self._backlog.kept(expired, math.inf, batch_s)
        again = [item for item in self._recovery.items() if item.deadline_at <= now]
        if again:
            self._remove(again)
        return expired + again

    def _remove(self, items: Iterable[Item]) -> None:
        for item in items:
            if item.state is State.AGAIN:
                item.state = State.DONE
                self._recovery.remove(item)
            else:
                self._queue.remove(item)

    def next_deadline_at(self) -> float:
        """Return the earliest deadline of an item that waits."""
        waiting_at = self._queue.next_deadline_at()
        if not self._recovery:
            return waiting_at
        return min([waiting_at, *(item.deadline_at for item in self._recovery.items())])

    def drain(self) -> None:
        """From now on wait for nobody."""
        self._draining = True

    def abandon(self) -> list[Item]:
        """Take out and return every item that waits, to be failed."""
        items = list(self._queue) + self._recovery.items()
        self._remove(items)
        return items

    # ---------------------------------------------------------------------------------------------- batches

    def poll(self, now: float) -> Dispatch | Wait:
        """Say what a free worker does now; what is late by now is taken out by `expire` first."""
        piece = self._recovery.next_piece(self.budget)
        if piece is not None:
            items, lineage = piece
            for item in items:
                item.state = State.RUNNING
            return self._dispatch(Choice(items, self.budget.padded(items), None), Reason.BISECT, now, lineage)
        if not self._queue:
            return Wait(math.inf)
        candidates = self._recovery.quarantine(self._queue.head(self._look_ahead))
        choice = choose(candidates, self.budget, now)
        if self.budget.cap is not None and self.budget.cap.is_too_late(choice.items, now):
            choice = choose(candidates, self.budget.uncapped(), now)
        if self._recovery.is_suspect(choice.items[0]):
            choice.bound = choice.bound or Reason.BUDGET  # it may have no company, so it waits for none
        until, reason = self._hold_until(choice, now)
        if until > now:
            self._held_at, self._held_until = now, until
            return Wait(until)
        self._note_pace(choice, now)
        self._queue.take(choice.items)
        return self._dispatch(choice, reason, now, None)

    def _note_pace(self, choice: Choice, now: float) -> None:
        left_behind = choice.bound is not None and len(choice.items) < len(self._queue)
        if not left_behind and not self._backlog.any_promised:
            return
        batch_s = self.budget.time_s(len(choice.items), choice.length)
        if left_behind:
            self._backlog.left_behind(self.budget, self._queue.mean_length, len(choice.items), batch_s)
        self._backlog.kept(choice.items, now, batch_s)

    def _dispatch(self, choice: Choice, reason: Reason, now: float, lineage: Lineage | None) -> Dispatch:
        size = self.budget.size(len(choice.items))
        batch = Batch(
            batch_id=self._num_dispatched,
            items=choice.items,
            length=choice.length,
            num_tokens=self.budget.num_tokens(choice.items, choice.length),
            size=size,
            reason=reason,
            dispatched_at=now,
            predicted_s=self.cost.time_s(size, choice.length),
            lineage=lineage,
        )
        self._num_dispatched += 1
        self._running[batch.batch_id] = batch
        self._held_at = -math.inf
        self._ample_s = self._backlog.ample_s(self.budget, self._longest)
        return Dispatch(batch)

    def _hold_until(self, choice: Choice, now: float) -> tuple[float, Reason]:
        """Return until when the batch had better wait for company (`now` or earlier: not at all), and why it leaves."""
        if choice.bound is not None:
            return now, choice.bound
        if self._draining:
            return now, Reason.DRAIN
        if not self.policy.max_wait_s:
            return now, Reason.IDLE
        pays_until = self._pays_until(choice, now)
        longer_s = self.budget.time_s(len(choice.items) + 1, choice.length)
        safe_until = now + choice.slack_s(now) - longer_s
        if safe_until < pays_until and safe_until <= now:
            return safe_until, Reason.DEADLINE
        was_held = min(item.arrived_at for item in choice.items) <= self._held_at
        return min(pays_until, safe_until), Reason.TIMER if was_held else Reason.IDLE

    def holds_on(self, item: Item, now: float) -> bool:
        """Whether what a poll held back is held at least as long although an item has come since.

        Then no worker need wake for it: False where that is not sure.

        Args:
            item: the one that came last, which waits.
            now: the instant.
        """
        if self._held_at == -math.inf or self._draining or item.priority or self._longest > 1:
            return False
        if self._recovery or self.policy.batch_size_buckets or item.deadline_at <= self._queue.next_deadline_at():
            return False
        count, length = len(self._queue), self.budget.padded_length(1)
        if count >= self.budget.most_items(length)[0]:
            return False
        returns = self._forecast.returns(now)
        if self._forecast.next_in_s(returns) >= self._worth_of_s(count, length, 1):
            return False
        return now + self._worth_of_s(count, length, max(1, round(returns))) >= self._held_until > now

    def _pays_until(self, choice: Choice, now: float) -> float:
        """Return until when waiting raises the predicted throughput.

        With n items waiting, waiting w seconds for k more raises n / t(n) when `w < t(n) (n + k) / n - t(n + k)`,
        which is `a k / n` for t = a + c n. It waits while the next arrival is expected within what one more is worth,
        and gives up after a silence as long as all that are expected are worth.
        """
        returns = self._forecast.returns(now)
        if self._forecast.next_in_s(returns) >= self._worth_s(choice, 1):
            return now
        worth_s = self._worth_s(choice, max(1, round(returns)))
        oldest_at = min(item.arrived_at for item in choice.items)
        latest = max(oldest_at, self._freed_at) + self.policy.max_wait_s
        return min(self._forecast.quiet_since + worth_s, latest)

    def _worth_s(self, choice: Choice, num_more: int) -> float:
        return self._worth_of_s(len(choice.items), choice.length, num_more)

    def _worth_of_s(self, count: int, length: int, num_more: int) -> float:
        grown = min(count + num_more, self.policy.max_batch_size)
        return self.budget.time_s(count, length) * grown / count - self.budget.time_s(grown, length)

    def succeeded(self, batch: Batch, now: float) -> None:
        """Take note that a batch ran and its items are answered."""
        self.came_back(batch, now)
        self.learn(batch, now)

    def came_back(self, batch: Batch, now: float) -> None:
        """Take note that a batch ran, whose items may now be answered: the part that those who arrive next rest on."""
        self._recovery.succeeded(batch)
        self._came_back(batch, len(batch.items), now)
        done = State.DONE
        for item in batch.items:
            item.state = done

    def learn(self, batch: Batch, now: float) -> None:
        """Learn from a batch that came back at an instant; its items may have been answered already."""
        if self._learning is not None:
            self._learning.observe(batch.size, batch.length, now - batch.dispatched_at)
        self.budget.ran(batch.size, batch.length)
        if self.budget.cap is not None:
            self.budget.cap.review(self.budget, now)

    def failed(self, batch: Batch, now: float, fault: Fault = Fault.ITEM) -> list[Item]:
        """Take note that a batch failed; return the items that failed for good. The others run again."""
        if fault is Fault.MEMORY:
            self.budget.ran_out_of_memory(batch.size, batch.length)
        for item in batch.items:
            item.state = State.AGAIN
        guilty = batch.items if fault is Fault.MODEL else self._recovery.split(batch, fault)
        for item in guilty:
            item.state = State.DONE
        self._came_back(batch, len(guilty), now)
        return guilty

    def _came_back(self, batch: Batch, num_answered: int, now: float) -> None:
        if len(self._running) == self._num_workers:
            self._freed_at = now
        del self._running[batch.batch_id]
        if self.policy.max_wait_s and num_answered:
            self._forecast.completed(num_answered, now)

    def check_integrity(self) -> None:
        """Assert the invariants: every item is in one place, and in the state of that place."""
        self._queue.check_integrity()
        again = self._recovery.items()
        running = [item for batch in self._running.values() for item in batch.items]
        assert len({id(item) for item in [*self._queue, *again, *running]}) == self.num_waiting + self.num_running
        assert all(item.state is State.AGAIN for item in again)
        assert all(item.state is State.RUNNING for item in running)
        assert len(self._running) <= self._num_workers


def _look_ahead(policy: Policy) -> int:
    return max(policy.look_ahead, policy.max_batch_size) if policy.max_batch_size > 1 else 1
