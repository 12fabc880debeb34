"""Equal items share one computation: with one that waits or runs, or with one that has been answered lately.

It stands where the batcher stands, and takes the same calls. An item that is equal to one on its way joins it: it is
answered by that one's result, or its error. The computation is as urgent as its most urgent client; a client that goes
away leaves the others theirs, and where the deadline of one passes, only that one is told so.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from carpool.core.item import State
from carpool.errors import CarpoolError, DeadlineExceeded
from carpool.runtime.delivery import Landing
from carpool.serve.cache import ResponseCache
from carpool.serve.digest import digest
from carpool.signals.events import CacheAsked

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carpool.core import Item
    from carpool.models.model import Admitted
    from carpool.runtime.batcher import Batcher
    from carpool.serve.cache import SharingPolicy
    from carpool.signals.events import CacheAnswer


class Place(Landing):
    """One client's part in a computation.

    Args:
        handle: told the outcome.
        options: as the batcher takes them.
        deadline_at: after which the answer is worth nothing, on the clock of `time.perf_counter`.
    """

    __slots__ = ("deadline_at", "handle", "item", "options", "shared")

    def __init__(self, handle: Landing, options: dict[str, Any], deadline_at: float) -> None:
        super().__init__(handle.get_loop())
        self.handle = handle
        self.options = options
        self.deadline_at = deadline_at
        self.shared: _Shared | None = None  # None once it is settled or has left
        self.item: Item | None = None  # of a row that can't be shared

    def settle(self, outcome: Any) -> None:
        """Hand the outcome over."""
        self.shared = None
        self.handle.settle(outcome)

    def cancelled(self) -> bool:
        """Tell whether the client has gone."""
        return self.handle.cancelled()


class _Shared(Landing):
    """One computation, and all who wait for it; the handle of its item."""

    __slots__ = ("_sharing", "item", "key", "places", "row")

    def __init__(self, sharing: Sharing, key: bytes, row: Admitted, first: Place) -> None:
        super().__init__(first.get_loop())
        self._sharing = sharing
        self.key = key
        self.row = row
        self.item: Item | None = None
        self.places = [first]

    def settle(self, outcome: Any) -> None:
        """Take the outcome of the computation."""
        self._sharing.settled(self, outcome)

    def cancelled(self) -> bool:
        """Tell whether all clients have gone."""
        return all(place.cancelled() for place in list(self.places))


class Sharing:
    """A batcher whose equal items share one computation.

    Args:
        batcher: runs what is not shared.
        policy: what is shared.
    """

    def __init__(self, batcher: Batcher, policy: SharingPolicy) -> None:
        self.cache = ResponseCache(size_bytes=policy.size_bytes, ttl_s=policy.ttl_s) if policy.size_bytes else None
        self._batcher = batcher
        self._on_their_way: dict[tuple[asyncio.AbstractEventLoop, bytes], _Shared] = {}

    def submit(self, rows: Sequence[Admitted], handles: Sequence[Landing], **options: Any) -> list[Any]:
        """Accept the rows of one request together, or none of them, as a batcher does.

        Args:
            rows: what the model's `admit` made of them.
            handles: one a row, told its outcome; all of one event loop, the running one.
            options: as for a batcher.

        Returns:
            What `withdraw` takes.

        Raises:
            CarpoolError: a row was refused.
        """
        now = time.perf_counter()
        deadline_s = options.get("deadline_s")
        deadline_at = float("inf") if deadline_s is None else now + deadline_s
        request = _Request([Place(handle, options, deadline_at) for handle in handles])
        for row, place in zip(rows, request.places, strict=True):
            self._place(row, place, request, now)
        try:
            items = self._batcher.submit(
                [row for row, _ in request.alone], [one for _, one in request.alone], **options
            )
        except CarpoolError:
            for shared in request.led:
                del self._on_their_way[shared.get_loop(), shared.key]
            raise
        for item, (_, handle) in zip(items, request.alone, strict=True):
            handle.item = item
        self._settle_in(request)
        return request.places

    def _place(self, row: Admitted, place: Place, request: _Request, now: float) -> None:
        """Find out whether a row has an answer, joins another, or runs."""
        began = time.perf_counter()
        key = digest(row.payload)
        if key is None:
            request.alone.append((row, place))
            return
        found = self.cache.get(key, now) if self.cache is not None else None
        other = self._on_their_way.get((place.get_loop(), key))
        if found is not None:
            request.known.append((place, found[0]))
        elif other is not None:
            request.joined.append((place, other))
        else:
            shared = self._on_their_way[place.get_loop(), key] = _Shared(self, key, row, place)
            request.led.append(shared)
            request.alone.append((row, shared))
        answer: CacheAnswer = "hit" if found is not None else "miss" if other is None else "joined"
        self._batcher.sinks.record(CacheAsked(at=now, answer=answer, took_s=time.perf_counter() - began))

    def _settle_in(self, request: _Request) -> None:
        """Let the rows of a request that was accepted wait for what they share."""
        loop = asyncio.get_running_loop()
        for place, result in request.known:
            loop.call_soon(place.settle, result)
        for shared in request.led:
            shared.places[0].shared = shared
        for place, shared in request.joined:
            self._join(place, shared)

    def _join(self, place: Place, shared: _Shared) -> None:
        """Let a client wait for a computation of others, which becomes as urgent as it needs."""
        shared.places.append(place)
        place.shared = shared
        if place.deadline_at < float("inf"):
            loop = place.get_loop()
            loop.call_later(max(0.0, place.deadline_at - time.perf_counter()), self._too_late, place)
        if shared.item is not None:
            deadline_s = place.options.get("deadline_s")
            self._batcher.hurry(shared.item, deadline_s=deadline_s, priority=place.options.get("priority", 0))

    def _too_late(self, place: Place) -> None:
        """Answer a client whose deadline passed while the computation of others waited; one that runs is awaited."""
        shared = place.shared
        if shared is None or (shared.item is not None and shared.item.state is State.RUNNING):
            return
        self._leave(place, shared)
        place.settle(DeadlineExceeded("the deadline passed while an equal item waited; it was not computed"))

    def settled(self, shared: _Shared, outcome: Any) -> None:
        """Hand an outcome to all who wait for it, and keep it if it is a result."""
        self._on_their_way.pop((shared.get_loop(), shared.key), None)
        places, shared.places = shared.places, []
        if isinstance(outcome, DeadlineExceeded):
            places = self._hand_over(shared, places)
        elif self.cache is not None and not isinstance(outcome, CarpoolError):
            self.cache.put(shared.key, outcome, time.perf_counter())
        for place in places:
            place.settle(outcome)

    def _hand_over(self, shared: _Shared, places: list[Place]) -> list[Place]:
        """Compute it for those who have more time than it had; return the others."""
        now = time.perf_counter()
        rest = [place for place in places if place.deadline_at > now and not place.cancelled()]
        for place in rest:
            left_s = None if place.deadline_at == float("inf") else place.deadline_at - now
            place.shared = None
            try:
                self._wait_anew(shared.row, place, place.options | {"deadline_s": left_s})
            except CarpoolError as refusal:
                place.settle(refusal)
        return [place for place in places if place not in rest]

    def _wait_anew(self, row: Admitted, place: Place, options: dict[str, Any]) -> None:
        """Let a client wait anew, for a computation of its own or of those that come before it.

        Raises:
            CarpoolError: it was refused.
        """
        request = _Request([place])
        self._place(row, place, request, time.perf_counter())
        for one, handle in request.alone:
            (item,) = self._batcher.submit([one], [handle], **options)
            handle.item = item
        self._settle_in(request)

    def withdraw(self, places: Iterable[Any]) -> None:
        """Take rows back, as long as they wait: what others wait for too goes on."""
        for place in places:
            if place.shared is not None:
                self._leave(place, place.shared)
            elif place.item is not None:
                self._batcher.withdraw([place.item])

    def _leave(self, place: Place, shared: _Shared) -> None:
        place.shared = None
        shared.places.remove(place)
        if shared.places:
            return
        self._on_their_way.pop((shared.get_loop(), shared.key), None)
        if shared.item is not None:
            self._batcher.withdraw([shared.item])


class _Request:
    """What becomes of the rows of one request."""

    __slots__ = ("alone", "joined", "known", "led", "places")

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.known: list[tuple[Place, Any]] = []  # with results that are kept
        self.joined: list[tuple[Place, _Shared]] = []  # with computations of others
        self.led: list[_Shared] = []  # computations that others may join
        self.alone: list[tuple[Admitted, Place | _Shared]] = []  # rows to compute, and their handles
