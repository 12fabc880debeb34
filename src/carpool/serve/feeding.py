"""A request of more rows than may wait at a time is fed in parts, as its rows before are answered.

At most a window of it waits at any moment, so the queue holds no more for it than for anybody else, and who comes after
it stands behind a window, not behind all of it. Such a request is not accepted whole or not at all, as smaller ones
are: what it could not get in at first is tried again while its deadline allows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeAlias

from carpool.errors import CarpoolError, DeadlineExceeded, QueueFull
from carpool.runtime.delivery import Landing
from carpool.units import counted

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from carpool.models.model import Admitted
    from carpool.runtime.batcher import Batcher
    from carpool.serve.sharing import Sharing

    Entrance: TypeAlias = Batcher | Sharing

_LATEST_S = 1.0  # a queue that is full of others is tried again after so long at most


class _Fed(Landing):
    """Where the outcome of a row that was fed lands."""

    __slots__ = ("_feeding", "_handle")

    def __init__(self, feeding: Feeding, handle: Landing) -> None:
        super().__init__(handle.get_loop())
        self._feeding = feeding
        self._handle = handle

    def settle(self, outcome: Any) -> None:
        """Hand it over, and make place for another row."""
        self._handle.settle(outcome)
        self._feeding.one_less()

    def cancelled(self) -> bool:
        """Tell whether nobody waits for the row any more."""
        return self._handle.cancelled()


class Feeding:
    """One large request on its way into the queue; lives on one event loop.

    Args:
        entrance: takes the rows.
        rows: what the model's `admit` made of them.
        handles: one a row, told its outcome.
        window: most of its rows that wait at a time; at least 1.
        options: as for the entrance, the same for all; `deadline_s` counts from now.
    """

    def __init__(
        self,
        entrance: Entrance,
        rows: Sequence[Admitted],
        handles: Sequence[Landing],
        *,
        window: int,
        options: dict[str, Any],
    ) -> None:
        self._entrance = entrance
        self._rows = rows
        self._handles = [_Fed(self, handle) for handle in handles]
        self._window = window
        self._options = options
        deadline_s = options.get("deadline_s")
        self._deadline_at = None if deadline_s is None else time.perf_counter() + deadline_s
        self._entries: list[Any] = []
        self._num_fed = self._num_on_their_way = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Feed the first window.

        Raises:
            CarpoolError: its rows were refused, and so the request is.
        """
        self._feed()

    def withdraw(self, _: Sequence[Any]) -> None:
        """Feed no more, and take back what waits."""
        self._num_fed = len(self._rows)
        if self._timer is not None:
            self._timer.cancel()
        self._entrance.withdraw(self._entries)

    def one_less(self) -> None:
        """Take note that a row was answered; feed more when half a window is free."""
        self._num_on_their_way -= 1
        if self._num_on_their_way <= self._window // 2 and self._timer is None:
            self._go_on()

    def _go_on(self) -> None:
        """Feed more; a queue that others have filled is tried again."""
        self._timer = None
        start = self._num_fed
        if start >= len(self._rows):
            return
        try:
            self._feed()
        except QueueFull as refusal:
            if not self._num_on_their_way:  # nobody else will say when there is room
                after_s = min(_LATEST_S, max(0.001, refusal.retry_after_s or 0.0))
                self._timer = self._handles[start].get_loop().call_later(after_s, self._go_on)
        except CarpoolError as error:
            self._num_fed = len(self._rows)
            self._handles[start].settle(error)  # which ends the request, and so withdraws the rest

    def _feed(self) -> None:
        stop = min(len(self._rows), self._num_fed + self._window - self._num_on_their_way)
        part = slice(self._num_fed, stop)
        entries = self._entrance.submit(self._rows[part], self._handles[part], **self._options_now())
        self._num_on_their_way += stop - self._num_fed
        self._num_fed = stop
        self._entries += entries

    def _options_now(self) -> dict[str, Any]:
        if self._deadline_at is None:
            return self._options
        left_s = self._deadline_at - time.perf_counter()
        if left_s <= 0.0:
            raise DeadlineExceeded(
                f"the deadline passed when {counted(self._num_fed, 'row')} of {len(self._rows)} had joined the queue: "
                "allow more time, or send fewer rows in a request"
            )
        return self._options | {"deadline_s": left_s}
