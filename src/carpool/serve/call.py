"""A call of a model that is on offer: what is asked of it, and how the answer comes back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from carpool.errors import CarpoolError
from carpool.runtime.delivery import Landing
from carpool.serve.faults import to_fault

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from carpool.core import Item

# Reading or checking a larger body takes milliseconds: on a thread, so that the loop serves the others meanwhile.
SMALL_BODY_BYTES = 32 * 1024

Outcome: TypeAlias = list[Any] | CarpoolError
"""One result a row, in order; or why the request failed, the row named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    """What a request says besides its rows.

    Args:
        timeout_s: after so long the answer is worth nothing; None takes the server's limit.
        priority: higher goes sooner; below zero is background work.
        tenant: whose share of the capacity it uses.
        request_id: what the client calls the request, for traces and logs.
    """

    timeout_s: float | None = None
    priority: int = 0
    tenant: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a call.

    Args:
        results: one a row, in order.
        lengths: tokens of each row; 1 where lengths mean nothing.
    """

    results: list[Any]
    lengths: tuple[int, ...]


class Ticket(Landing):
    """A request that was handed over; where its rows' outcomes land, all on its own event loop.

    A request of one row is answered by the wake-up of the batch itself: it costs no future and no task. It lives on
    one event loop, and is not for other threads.

    Args:
        loop: where the request was made, and is answered.
        done: called once with the outcome, unless the ticket is cancelled first.
    """

    __slots__ = ("_done", "_items", "_num_left", "_results", "_withdraw", "lengths")

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[Outcome], None]) -> None:
        super().__init__(loop)
        self.lengths: tuple[int, ...] = ()
        self._done: Callable[[Outcome], None] | None = done
        self._items: Sequence[Item] = ()
        self._withdraw: Callable[[Sequence[Item]], None] | None = None
        self._results: list[Any] = []
        self._num_left = 0

    def handles(self, num_rows: int) -> list[Landing]:
        """Return where the outcome of each row lands.

        Args:
            num_rows: rows of the request.
        """
        if num_rows == 1:
            return [self]
        self._results = [None] * num_rows
        self._num_left = num_rows
        return [_Row(self, row) for row in range(num_rows)]

    def accepted(self, items: Sequence[Item], withdraw: Callable[[Sequence[Item]], None]) -> None:
        """Take note of the items that wait for this request.

        Args:
            items: one a row.
            withdraw: takes items back that still wait.
        """
        self._items = items
        self._withdraw = withdraw

    def settle(self, outcome: Any) -> None:
        """Take the outcome of the only row."""
        self.finish(to_fault(outcome) if isinstance(outcome, CarpoolError) else [outcome])

    def settle_row(self, row: int, outcome: Any) -> None:
        """Take the outcome of one of several rows; the first that fails ends the request."""
        if isinstance(outcome, CarpoolError):
            self._take_back()
            self.finish(to_fault(outcome, position=row, num_items=len(self._results)))
            return
        self._results[row] = outcome
        self._num_left -= 1
        if not self._num_left:
            self.finish(self._results)

    def finish(self, outcome: Outcome) -> None:
        """Answer the request, unless it has been answered or cancelled."""
        done, self._done = self._done, None
        if done is not None:
            done(outcome)

    def cancelled(self) -> bool:
        """Tell whether nobody waits for the answer any more."""
        return self._done is None

    def cancel(self) -> None:
        """Withdraw the request: rows that wait leave the queue, and `done` is not called any more."""
        if self._done is not None:
            self._done = None
            self._take_back()

    def _take_back(self) -> None:
        if self._withdraw is not None:
            self._withdraw(self._items)


class _Row(Landing):
    """Where the outcome of one of several rows lands."""

    __slots__ = ("_row", "_ticket")

    def __init__(self, ticket: Ticket, row: int) -> None:
        super().__init__(ticket.get_loop())
        self._ticket = ticket
        self._row = row

    def settle(self, outcome: Any) -> None:
        """Take the outcome of the row."""
        self._ticket.settle_row(self._row, outcome)

    def cancelled(self) -> bool:
        """Tell whether nobody waits for the row any more."""
        return self._ticket.cancelled()
