"""The public batcher: single items in, single results out, batches in between."""

import asyncio
import functools
import math
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Self

from carpool.core import BatchFormer, Item, Policy, TimeModel
from carpool.cost.online import AffineEstimator, adapting
from carpool.errors import BatcherClosed, CarpoolError, ConfigError
from carpool.models.model import Admitted, Model
from carpool.models.target import wrap
from carpool.runtime.clock import SystemClock
from carpool.runtime.copies import WorkerKind, check_limits, count_workers, models_for
from carpool.runtime.delivery import Pile, deliver, unwrap
from carpool.runtime.dispatcher import Dispatcher, Outlook
from carpool.runtime.fit_policy import fit_policy, make_policy
from carpool.runtime.misuse import check_item_options, naming_options, running_loop
from carpool.runtime.pool import Pool
from carpool.runtime.process.remote import RemoteModel
from carpool.runtime.timekeeper import start_timekeeper
from carpool.signals.events import Sink
from carpool.signals.fan_out import FanOut
from carpool.signals.metrics import Metrics

WarmUp = Callable[[Model], Iterable[Sequence[Any]]]


class Batcher:
    """Groups single calls into batches for a model that takes many items at once.

    Call it from asyncio (`await batcher(item)`) or from threads (`batcher.map(items)`), from many places at once: what
    is pending when the model is free runs together.

    Args:
        model: a function over a list, a class with `load()` and `__call__(batch)`, an `nn.Module`, or a `Model`.
        policy: how batches are formed; or give `max_batch_size` and `max_wait` alone.
        max_batch_size: most items in a batch (32 by default).
        max_wait: the longest wait for company, as in "2ms" (0 by default: a free model never waits).
        cost_model: predicts how long a batch runs, and is corrected by how long batches do run; by default learned
            from those alone.
        num_workers: batches that run at a time, as many as the model is best run with by default (mostly one); each has
            a copy of the model, unless threads may share it.
        worker: "thread" runs the model in this process, "process" in one of its own for each worker.
        devices: where each worker computes, such as ["cuda:0", "cuda:1"]: one worker, and one copy of the model, each.
        batch_timeout_s: a call that takes longer is taken to hang: its process is ended and replaced, or its thread
            left behind.
        max_worker_memory_bytes: a worker's process that holds more is replaced between two batches.
        warm_up: given the loaded model, yields batches of items to run before the batcher is ready, on each worker.
        sink: is told every event, besides `metrics`.

    Raises:
        ConfigError: an argument is outside its range.
        TargetError: the model is nothing that takes a list of items.

    >>> def lengths(texts: list[str]) -> list[int]:
    ...     return [len(text) for text in texts]
    >>> with Batcher(lengths, max_batch_size=64) as batcher:
    ...     batcher.map(["one", "three"])
    [3, 5]
    """

    @naming_options("a Batcher")
    def __init__(
        self,
        model: object,
        *,
        policy: Policy | None = None,
        max_batch_size: int | None = None,
        max_wait: str | float | None = None,
        cost_model: TimeModel | None = None,
        num_workers: int | None = None,
        worker: WorkerKind = "thread",
        devices: Sequence[str] | None = None,
        batch_timeout_s: float | None = None,
        max_worker_memory_bytes: int | None = None,
        warm_up: WarmUp | None = None,
        sink: Sink | None = None,
    ) -> None:
        given = model if isinstance(model, Model) else wrap(model)
        num_workers = count_workers(num_workers, devices, given, worker)
        check_limits(worker, batch_timeout_s, max_worker_memory_bytes)
        self.policy = make_policy(policy, max_batch_size, max_wait)
        self.metrics = Metrics(max_batch_size=self.policy.max_batch_size, num_workers=num_workers)
        self._cost = adapting(_never_raising(cost_model)) if cost_model else AffineEstimator()
        self.sinks = FanOut(self.metrics, *(() if sink is None else (sink,)))
        self._clock = SystemClock()
        self._dispatcher: Dispatcher | None = None
        self._timekeeper: threading.Thread | None = None
        self._pool = Pool(
            clock=self._clock,
            warm_up=warm_up,
            batch_timeout_s=batch_timeout_s,
            max_memory_bytes=max_worker_memory_bytes,
            max_batch_size=self.policy.max_batch_size,
        )
        self._models = models_for(given, worker, num_workers, devices, self._pool.died)
        self.model = self._models[0]

    # ---------------------------------------------------------------------------------------------- life

    def start(self) -> Self:
        """Load the model, warm it up, and start to take items; a second call does nothing.

        Raises:
            CarpoolError: the model could not be loaded or warmed up.
        """
        self._pool.start(self._models, self._make_dispatcher)
        self._pool.wait()
        return self

    def _make_dispatcher(self) -> Dispatcher:
        """Begin to take items, once every worker is ready."""
        self.policy = fit_policy(self.policy, self.model)
        former = BatchFormer(self.policy, self._cost, num_workers=len(self._models))
        self._dispatcher = Dispatcher(former, self._clock, self.sinks, deliver, model=self.model.info.name)
        return self._dispatcher

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, take nothing more, and let the model go.

        Args:
            timeout_s: how long to wait for what was accepted; what then still waits fails with `BatcherClosed`.
        """
        self._pool.close(timeout_s)
        if self._dispatcher is not None and not isinstance(self.model, RemoteModel):  # whose thread closes it
            self.model.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and a worker can run it."""
        return self._pool.is_ready and self.failure is None

    @property
    def accepts(self) -> bool:
        """Whether items are taken: also while a worker that was lost is being replaced."""
        return self._dispatcher is not None and self.failure is None

    @property
    def trouble(self) -> CarpoolError | None:
        """Why no worker can run a batch now, though one is being started again; None while one can."""
        return self._pool.trouble

    @property
    def failure(self) -> Exception | None:
        """What stopped it, or kept it from starting; None while all is well."""
        return self._pool.failure or (self._dispatcher.failure if self._dispatcher else None)

    @property
    def num_waiting(self) -> int:
        """Accepted items that are not in a batch now."""
        return self._dispatcher.num_waiting if self._dispatcher else 0

    def outlook(self) -> Outlook:
        """Tell what an item that came now, as long as those before it, would be in for.

        Raises:
            BatcherClosed: the batcher is not running.
        """
        totals = self.metrics.totals()
        return self._running().outlook(max(1, round(totals.real_tokens / max(1, totals.num_items))))

    def set_policy(self, policy: Policy) -> None:
        """Form the batches from now on by another policy; nothing that waits or runs is dropped.

        Raises:
            ConfigError: the cost model can't tell what the policy limits.
            BatcherClosed: the batcher is not running.
        """
        policy = fit_policy(policy, self.model)
        self._running().set_policy(policy)
        self.policy = policy
        self.metrics.set_max_batch_size(policy.max_batch_size)

    # --------------------------------------------------------------------------------------------- items

    def __call__(self, item: Any, **options: Any) -> Coroutine[Any, Any, Any]:
        """Return an awaitable of the item's result; for `options` see `enqueue`.

        Raises:
            ConfigError: no event loop runs here: use `map` in ordinary code.
        """
        running_loop("batcher(item)")
        check_item_options(options)
        return self._answer(item, options)

    async def _answer(self, item: Any, options: dict[str, Any]) -> Any:
        if self._dispatcher is None:
            await asyncio.to_thread(self.start)
        (entry,) = self.submit([item], [asyncio.get_running_loop().create_future()], **options)
        try:
            return await entry.handle
        except asyncio.CancelledError:
            self._running().cancel(entry)
            raise

    def enqueue(self, item: Any, **options: Any) -> asyncio.Future[Any]:
        """Accept an item from within an event loop; return the future of its result.

        Cancelling the future withdraws the item, as long as it waits.

        Args:
            item: what the model takes, or what its `admit` made of it.
            options: `deadline_s` (seconds from now after which the answer is worth nothing), `priority` (higher goes
                sooner, below zero is background work), `tenant` (whose share of the capacity it uses), `request_id`
                (the request that events and traces name).

        Raises:
            InvalidItem: the model can't take it.
            QueueFull: too many items wait.
            DeadlineExceeded: the deadline can't be met.
            BatcherClosed: the batcher is not running.
            ConfigError: no event loop runs here, or there is no such option.
        """
        return self.enqueue_all([item], **options)[0]

    def enqueue_all(self, items: Sequence[Any], **options: Any) -> list[asyncio.Future[Any]]:
        """Accept the items of one request together, or none of them; return the futures of their results in order.

        Args:
            items: as for `enqueue`.
            options: as for `enqueue`, the same for all.

        Raises:
            CarpoolError: as `enqueue`, naming the first item that was refused where there are several.
        """
        create_future = running_loop("enqueue(item)").create_future
        check_item_options(options)
        entries = self.submit(items, [create_future() for _ in items], **options)
        for entry in entries:
            entry.handle.add_done_callback(functools.partial(self._withdraw_if_cancelled, entry))
        return [entry.handle for entry in entries]

    def submit(
        self,
        items: Sequence[Any],
        handles: Sequence[Any],
        *,
        deadline_s: float | None = None,
        priority: int = 0,
        tenant: str = "",
        request_id: str = "",
    ) -> list[Item]:
        """Accept the items of one request together, or none of them, for handles of the caller's own.

        Args:
            items: as for `enqueue`.
            handles: one an item, told its outcome; see `carpool.runtime.delivery.Landing`.
            deadline_s: as for `enqueue`, like what follows, the same for all.
            priority: higher goes sooner.
            tenant: whose share of the capacity they use.
            request_id: what the request is called in traces.

        Raises:
            CarpoolError: as `enqueue_all`.
        """
        dispatcher = self._running()  # a model that is not loaded can't admit
        rows = [item if type(item) is Admitted else self.model.admit(item) for item in items]
        now = self._clock.now()  # they came together
        deadline_at = math.inf if deadline_s is None else now + _seconds(deadline_s)
        entries = [
            Item(
                payload=row.payload,
                arrived_at=now,
                length=row.length,
                deadline_at=deadline_at,
                priority=priority,
                tenant=tenant,
                request_id=request_id,
                handle=handle,
            )
            for row, handle in zip(rows, handles, strict=True)
        ]
        if len(entries) == 1:
            dispatcher.submit(entries[0])
        else:
            dispatcher.submit_all(entries)
        self._keep_time(deadline_at)
        return entries

    def hurry(self, entry: Item, *, deadline_s: float | None = None, priority: int = 0) -> None:
        """Let an item become as urgent as one that came now, as long as it waits.

        Args:
            entry: what `submit` gave.
            deadline_s: seconds from now.
            priority: higher goes sooner.
        """
        deadline_at = math.inf if deadline_s is None else self._clock.now() + _seconds(deadline_s)
        self._running().hurry(entry, deadline_at, priority)
        self._keep_time(deadline_at)

    def withdraw(self, entries: Iterable[Item]) -> None:
        """Take items back, as long as they wait."""
        for entry in entries:
            self._running().cancel(entry)

    def _withdraw_if_cancelled(self, entry: Item, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self._running().cancel(entry)

    def _keep_time(self, deadline_at: float) -> None:
        if self._timekeeper is None and deadline_at < math.inf:
            self._timekeeper = start_timekeeper(self._running())

    def map(self, items: Iterable[Any]) -> list[Any]:
        """Run all the items, and return their results in order.

        Raises:
            CarpoolError: what the first item that failed was answered with; the others still ran.
        """
        outcomes = self.map_outcomes(items)
        return [unwrap(outcome) for outcome in outcomes]

    def map_outcomes(self, items: Iterable[Any]) -> list[Any]:
        """Run all the items; return for each, in order, its result or the `CarpoolError` in its place."""
        if self._pool.holds(threading.current_thread()):
            message = "map() was called by the batcher's own model, which it would wait for: call another batcher there"
            raise ConfigError(message)
        if self._dispatcher is None:
            self.start()
        items = list(items)
        pile = Pile(len(items))
        window = min(
            self.policy.max_queue, max(self.policy.look_ahead, 2 * self.policy.max_batch_size * len(self._models))
        )
        for start in range(0, len(items), window // 2 or 1):
            self._feed(pile, items, start, min(len(items), start + (window // 2 or 1)))
            pile.wait_for(start)  # at most a window of ours waits at a time
        pile.wait_for(len(items))
        return pile.outcomes

    def _feed(self, pile: Pile, items: list[Any], start: int, stop: int) -> None:
        """Hand over items `start` to `stop`; wait for room where the queue is full."""
        entries: list[Item] = []
        for index in range(start, stop):
            try:
                admitted = self.model.admit(items[index])
            except CarpoolError as error:
                pile.put([(pile.place(index), error)])
                continue
            entries.append(
                Item(
                    payload=admitted.payload,
                    arrived_at=self._clock.now(),
                    length=admitted.length,
                    handle=pile.place(index),
                )
            )
        while entries:
            entries = entries[self._submit_some(pile, entries) :]

    def _submit_some(self, pile: Pile, entries: list[Item]) -> int:
        """Submit what there is room for; return how many of the entries are dealt with."""
        try:
            accepted = self._running().submit_many(entries)
        except CarpoolError as error:
            pile.put([(entries[0].handle, error)])
            return 1
        if not accepted:
            self._running().wait_for_room()
        return accepted

    def _running(self) -> Dispatcher:
        if self._dispatcher is None:
            message = "the batcher is not running: use it in a `with` or `async with` block, or call start() first"
            raise self._pool.failure or BatcherClosed(message)
        return self._dispatcher


def _never_raising(cost_model: TimeModel) -> TimeModel:
    """Return the form of a measured cost model that answers beyond its range too: a scheduler must go on."""
    clipped = getattr(cost_model, "clipped", None)
    return clipped() if clipped else cost_model


def _seconds(deadline_s: object) -> float:
    if type(deadline_s) is float and deadline_s == deadline_s:  # noqa: PLR0124 - not NaN, and quicker to tell so
        return deadline_s
    if not isinstance(deadline_s, int | float) or math.isnan(deadline_s):
        raise ConfigError(f"deadline_s is {deadline_s!r}; it must be a number of seconds from now, such as 0.5")
    return float(deadline_s)
