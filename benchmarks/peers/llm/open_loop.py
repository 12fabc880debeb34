"""The open loop that every engine meets: requests are handed over at given instants, whatever becomes of the others.

It runs in the engine's own process, on a thread that sleeps between requests, so that each engine is driven through its
asynchronous interface without a server in between: what is measured is the engine.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from peers.llm.engine import Engine, Request

Record = list[float]
"""When each token of a request came, seconds from the start of the loop."""


class Arrivals:
    """When tokens came, of all requests of a loop.

    Args:
        requests: what was asked for.
        clock: seconds, rising.
    """

    def __init__(self, requests: Sequence[Request], clock: Callable[[], float] = time.perf_counter) -> None:
        self.records: list[Record] = [[] for _ in requests]
        self.all_there = threading.Event()
        self._wanted = [request.num_output for request in requests]
        self._num_open = len(self._wanted)
        self._lock = threading.Lock()
        self._clock = clock
        self._began_at = clock()

    def now(self) -> float:
        """Seconds since the loop began."""
        return self._clock() - self._began_at

    def listener(self, number: int) -> Callable[[int], None]:
        """Make what is told of the tokens of a request."""
        record = self.records[number]

        def on_tokens(num_tokens: int) -> None:
            num_new = num_tokens - len(record)
            if num_new <= 0:
                return
            record.extend([self.now()] * num_new)
            if len(record) == self._wanted[number]:
                self._close_one()

        return on_tokens

    def _close_one(self) -> None:
        with self._lock:
            self._num_open -= 1
            if not self._num_open:
                self.all_there.set()


def drive(engine: Engine, requests: Sequence[Request], due: Sequence[float], *, patience_s: float) -> list[Record]:
    """Submit each request when it is due, and note when its tokens come.

    Args:
        engine: that was started for it.
        requests: in their order.
        due: when each is submitted, seconds from the start, rising.
        patience_s: how long after the last submission tokens are waited for.

    Returns:
        For each request when its tokens came; fewer than asked for where the patience ended first.
    """
    arrivals = Arrivals(requests)
    for number, (request, at) in enumerate(zip(requests, due, strict=True)):
        time.sleep(max(0.0, at - arrivals.now()))
        engine.submit(request, arrivals.listener(number))
    arrivals.all_there.wait(patience_s)
    return [list(record) for record in arrivals.records]
