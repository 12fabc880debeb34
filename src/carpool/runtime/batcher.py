"""The public batcher: single items in, single results out, batches in between."""

import asyncio
import functools
import math
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Self

from carpool.core import BatchFormer, Item, Policy, TimeModel
from carpool.cost.online import AffineEstimator
from carpool.errors import BatcherClosed, CarpoolError, ConfigError, ModelError
from carpool.models.blame import describe
from carpool.models.model import Admitted, Model
from carpool.models.target import wrap
from carpool.runtime.clock import SystemClock
from carpool.runtime.delivery import Pile, deliver, unwrap
from carpool.runtime.dispatcher import Dispatcher
from carpool.runtime.fit_policy import fit_policy, make_policy
from carpool.runtime.misuse import naming_options, running_loop, unknown_options
from carpool.runtime.worker import start_timekeeper, start_worker, work_until_closed
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
        cost_model: predicts how long a batch runs; by default learned while running.
        num_workers: threads that run batches; more than one only for a model that may be called so.
        warm_up: given the loaded model, yields batches of items to run before the batcher is ready.
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
        num_workers: int = 1,
        warm_up: WarmUp | None = None,
        sink: Sink | None = None,
    ) -> None:
        self.model = model if isinstance(model, Model) else wrap(model)
        if type(num_workers) is not int or num_workers < 1:
            raise ConfigError(f"num_workers is {num_workers!r}; it must be at least 1, a whole number")
        self.policy = make_policy(policy, max_batch_size, max_wait)
        self.metrics = Metrics(max_batch_size=self.policy.max_batch_size, num_workers=num_workers)
        self._cost = _never_raising(cost_model) if cost_model else AffineEstimator()
        self._num_workers = num_workers
        self._warm_up = warm_up
        self.sinks = FanOut(self.metrics, *(() if sink is None else (sink,)))
        self._clock = SystemClock()
        self._dispatcher: Dispatcher | None = None
        self._threads: list[threading.Thread] = []
        self._timekeeper: threading.Thread | None = None
        self._started = threading.Lock()  # held by whoever starts it
        self._ready = threading.Event()
        self._failure: Exception | None = None

    # ---------------------------------------------------------------------------------------------- life

    def start(self) -> Self:
        """Load the model, warm it up, and start to take items; a second call does nothing.

        Raises:
            CarpoolError: the model could not be loaded or warmed up.
        """
        with self._started:
            if not self._threads:
                self._start_threads()
        self._ready.wait()
        if self._failure:
            raise self._failure
        return self

    def _start_threads(self) -> None:
        first = threading.Thread(target=self._load_and_work, name="carpool-worker-0", daemon=True)
        self._threads.append(first)
        first.start()

    def _load_and_work(self) -> None:
        """Load, warm up and run on one thread: PyTorch keeps a pool of threads for each thread that calls it."""
        try:
            dispatcher = self._load()
        except BaseException as error:  # noqa: BLE001 - raised again in start(), where somebody waits for it
            self._failure = (
                error if isinstance(error, CarpoolError) else ModelError(f"loading the model raised {describe(error)}")
            )
            self._failure.__cause__ = error if self._failure is not error else error.__cause__
            self._ready.set()
            return
        self._dispatcher = dispatcher
        for worker in range(1, self._num_workers):
            self._threads.append(start_worker(dispatcher, self.model.run, self._clock, worker))
        self._ready.set()
        work_until_closed(dispatcher, self.model.run, self._clock, 0)

    def _load(self) -> Dispatcher:
        self.model.load()
        for batch in self._warm_up(self.model) if self._warm_up else ():
            self.model.run([self.model.admit(item).payload for item in batch])
        self.policy = fit_policy(self.policy, self.model)
        former = BatchFormer(self.policy, self._cost, num_workers=self._num_workers)
        return Dispatcher(former, self._clock, self.sinks, deliver)

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, take nothing more, and let the model go.

        Args:
            timeout_s: how long to wait for what was accepted; what then still waits fails with `BatcherClosed`.
        """
        if self._dispatcher is None:
            return
        self._dispatcher.close()
        stop_at = math.inf if timeout_s is None else self._clock.now() + timeout_s
        for thread in self._threads:
            thread.join(None if timeout_s is None else max(0.0, stop_at - self._clock.now()))
        if any(thread.is_alive() for thread in self._threads):
            message = f"the batcher was closed, and {timeout_s} s were not enough to finish: allow more time"
            self._dispatcher.abandon(BatcherClosed(message))
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
        """Whether the model is loaded and the batcher takes items."""
        return self._ready.is_set() and self.failure is None

    @property
    def failure(self) -> Exception | None:
        """What stopped it, or kept it from starting; None while all is well."""
        return self._failure or (self._dispatcher.failure if self._dispatcher else None)

    @property
    def num_waiting(self) -> int:
        """Accepted items that are not in a batch now."""
        return self._dispatcher.num_waiting if self._dispatcher else 0

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
        return self._answer(item, options)

    async def _answer(self, item: Any, options: dict[str, Any]) -> Any:
        if self._dispatcher is None:
            await asyncio.to_thread(self.start)
        entry = self._entry(item, asyncio.get_running_loop().create_future(), **options)
        self._submit([entry])
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
        entries = self.submit(items, [create_future() for _ in items], **options)
        for entry in entries:
            entry.handle.add_done_callback(functools.partial(self._withdraw_if_cancelled, entry))
        return [entry.handle for entry in entries]

    def submit(self, items: Sequence[Any], handles: Sequence[Any], **options: Any) -> list[Item]:
        """Accept the items of one request together, or none of them, for handles of the caller's own.

        Args:
            items: as for `enqueue`.
            handles: one an item, told its outcome; see `carpool.runtime.delivery.Landing`.
            options: as for `enqueue`, the same for all.

        Raises:
            CarpoolError: as `enqueue_all`.
        """
        entries = [self._entry(item, handle, **options) for item, handle in zip(items, handles, strict=True)]
        self._submit(entries)
        return entries

    def withdraw(self, entries: Iterable[Item]) -> None:
        """Take items back, as long as they wait."""
        for entry in entries:
            self._running().cancel(entry)

    def _withdraw_if_cancelled(self, entry: Item, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self._running().cancel(entry)

    def _entry(
        self,
        item: Any,
        handle: Any,
        *,
        deadline_s: float | None = None,
        priority: int = 0,
        tenant: str = "",
        request_id: str = "",
        **unknown: Any,
    ) -> Item:
        if unknown:
            raise unknown_options("an item", unknown, ("deadline_s", "priority", "tenant", "request_id"))
        self._running()  # a model that is not loaded can't admit
        admitted = item if isinstance(item, Admitted) else self.model.admit(item)
        now = self._clock.now()
        deadline_at = math.inf if deadline_s is None else now + _seconds(deadline_s)
        return Item(
            payload=admitted.payload,
            arrived_at=now,
            length=admitted.length,
            deadline_at=deadline_at,
            priority=priority,
            tenant=tenant,
            request_id=request_id,
            handle=handle,
        )

    def _submit(self, entries: list[Item]) -> None:
        dispatcher = self._running()
        dispatcher.submit_all(entries)
        if self._timekeeper is None and any(entry.deadline_at < math.inf for entry in entries):
            self._timekeeper = start_timekeeper(dispatcher)

    def map(self, items: Iterable[Any]) -> list[Any]:
        """Run all the items, and return their results in order.

        Raises:
            CarpoolError: what the first item that failed was answered with; the others still ran.
        """
        outcomes = self.map_outcomes(items)
        return [unwrap(outcome) for outcome in outcomes]

    def map_outcomes(self, items: Iterable[Any]) -> list[Any]:
        """Run all the items; return for each, in order, its result or the `CarpoolError` in its place."""
        if threading.current_thread() in self._threads:
            message = "map() was called by the batcher's own model, which it would wait for: call another batcher there"
            raise ConfigError(message)
        if self._dispatcher is None:
            self.start()
        items = list(items)
        pile = Pile(len(items))
        window = min(
            self.policy.max_queue, max(self.policy.look_ahead, 2 * self.policy.max_batch_size * self._num_workers)
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
            raise self._failure or BatcherClosed(message)
        return self._dispatcher


def _never_raising(cost_model: TimeModel) -> TimeModel:
    """Return the form of a measured cost model that answers beyond its range too: a scheduler must go on."""
    clipped = getattr(cost_model, "clipped", None)
    return clipped() if clipped else cost_model


def _seconds(deadline_s: object) -> float:
    if not isinstance(deadline_s, int | float) or math.isnan(deadline_s):
        raise ConfigError(f"deadline_s is {deadline_s!r}; it must be a number of seconds from now, such as 0.5")
    return float(deadline_s)


def batched(**options: Any) -> Callable[[object], Batcher]:
    """Turn a function over a list, or a class, into a batcher that is called with single items.

    It starts at its first call. For `options` see `Batcher`.

    >>> @batched(max_batch_size=64)
    ... def double(numbers: list[int]) -> list[int]:
    ...     return [2 * number for number in numbers]
    >>> double.map([1, 2])
    [2, 4]
    """

    def decorate(function: object) -> Batcher:
        batcher = Batcher(function, **options)
        functools.update_wrapper(batcher, function, updated=())  # type: ignore[arg-type]
        return batcher

    return decorate
