"""Handing outcomes to those who wait for them, on whichever thread or event loop that is."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from carpool.errors import CarpoolError

if TYPE_CHECKING:
    import asyncio

_logger = logging.getLogger("carpool.runtime")

Outcome = tuple[Any, Any]
"""An item's handle, and its result or the `CarpoolError` that takes its place."""


def nothing() -> None:
    """Do nothing."""


class Deliver(Protocol):
    """Hands outcomes to those who wait."""

    def __call__(self, outcomes: list[Outcome], then: Callable[[], None] = nothing, /) -> None:
        """Hand them over, and then call `then`, on any thread; must not raise."""


class Pile:
    """The outcomes of many items that one thread waits for together.

    Args:
        num_items: how many outcomes will come.
    """

    def __init__(self, num_items: int) -> None:
        self.outcomes: list[Any] = [None] * num_items
        self.num_done = 0
        self._changed = threading.Condition()

    def place(self, index: int) -> "Place":
        """Return the handle of item number `index`."""
        return Place(self, index)

    def wait_for(self, num_done: int) -> None:
        """Wait until so many outcomes have come."""
        with self._changed:
            self._changed.wait_for(lambda: self.num_done >= num_done)

    def put(self, places: "list[tuple[Place, Any]]") -> None:
        """Take outcomes, and wake the thread that waits."""
        for place, outcome in places:
            self.outcomes[place.index] = outcome
        with self._changed:
            self.num_done += len(places)
            self._changed.notify_all()


class Place:
    """Where one outcome goes in a pile."""

    __slots__ = ("index", "pile")

    def __init__(self, pile: Pile, index: int) -> None:
        self.pile = pile
        self.index = index

    def cancelled(self) -> bool:
        """Tell whether nobody waits any more: never, for a pile."""
        return False


class Landing(ABC):
    """A handle whose outcome lands on an event loop by the one wake-up of its batch: no future, no task.

    Args:
        loop: where the outcome is awaited.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop

    def get_loop(self) -> "asyncio.AbstractEventLoop":
        """Return the event loop on which `settle` is called."""
        return self._loop

    @abstractmethod
    def settle(self, outcome: Any) -> None:
        """Take the result, or the `CarpoolError` that takes its place; called on the loop, once or not at all."""

    @abstractmethod
    def cancelled(self) -> bool:
        """Tell whether nobody waits any more; asked on any thread."""


def deliver(outcomes: list[Outcome], then: Callable[[], None] = nothing, /) -> None:
    """Hand each outcome to its handle: a landing or an asyncio future, on its own loop, or a place in a pile.

    One wake-up serves all the handles of a loop. A loop that has closed has nobody left to tell.

    Args:
        outcomes: handles, each with what it waits for.
        then: called once, after the outcomes of one of the loops; here, where there is no loop.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    by_pile: dict[Pile, list[tuple[Place, Any]]] = {}
    last_loop: asyncio.AbstractEventLoop | None = None
    pairs: list[Outcome] = []
    for pair in outcomes:
        handle = pair[0]
        if type(handle) is Place:
            by_pile.setdefault(handle.pile, []).append(pair)
            continue
        loop = handle.get_loop()
        if loop is not last_loop:  # mostly there is but one
            last_loop, pairs = loop, by_loop.setdefault(loop, [])
        pairs.append(pair)
    for pile, places in by_pile.items():
        pile.put(places)
    is_passed_on = False
    for loop, pairs in by_loop.items():
        try:
            loop.call_soon_threadsafe(_settle_all, pairs, None if is_passed_on else then)
        except RuntimeError:
            continue
        is_passed_on = True
    if not is_passed_on:
        then()


def _settle_all(pairs: list[Outcome], then: Callable[[], None] | None) -> None:
    """Settle what landings and futures of this loop wait for."""
    for handle, outcome in pairs:
        settle = getattr(handle, "settle", None)  # asking an abstract class whether it is a landing takes longer
        if settle is None:
            _settle_future(handle, outcome)
            continue
        try:
            settle(outcome)
        except Exception:  # the others of the batch are answered all the same
            _logger.exception("unexpected failure, a fault in carpool, in handing over a result")
    if then is not None:
        then()


def _settle_future(future: "asyncio.Future[Any]", outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, CarpoolError):
        future.set_exception(_own_copy(outcome))
    else:
        future.set_result(outcome)


def _own_copy(error: CarpoolError) -> CarpoolError:
    """Return an equal error of its own: one that many callers raise would gather the traceback of each.

    Its constructor is not called: a model may raise a class of the user's own, which takes what only they know.
    """
    try:
        copy = CarpoolError.__new__(type(error), *error.args)
    except TypeError:  # a class that is also built on OSError or the like: better one for all than none
        return error
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


def unwrap(outcome: Any) -> Any:
    """Return a result, or raise the error that took its place."""
    if isinstance(outcome, CarpoolError):
        raise _own_copy(outcome)
    return outcome
