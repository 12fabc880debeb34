"""What a client is told when a request can't be answered: a status, a sentence, and when to come back.

A full queue is answered 429 and not 503: the server is well, and takes as much as it can; the client is to send less,
or later. 503 is for a server that takes nothing from anybody: a model that loads or has failed, a server that stops.
Load balancers take the ones that answer 503 out of their rotation, which under overload would only add to the load of
the others; clients that come back by themselves (OpenAI's among them) do so after both. 504 is for an answer that came,
or would come, too late to be worth anything.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

from carpool.errors import (
    BatcherClosed,
    CarpoolError,
    DeadlineExceeded,
    DispatcherDied,
    InvalidItem,
    QueueFull,
    Rejected,
)
from carpool.models.blame import text_of, writable

if TYPE_CHECKING:
    from collections.abc import Mapping

BAD_REQUEST = 400
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404
TOO_LARGE = 413
TOO_MANY = 429
FAILED = 500
UNAVAILABLE = 503
TOO_LATE = 504
_LONGEST_RETRY_S = 1e9

_STATUSES: Mapping[type[CarpoolError], int] = MappingProxyType(
    {
        InvalidItem: BAD_REQUEST,
        QueueFull: TOO_MANY,
        DeadlineExceeded: TOO_LATE,
        BatcherClosed: UNAVAILABLE,
        DispatcherDied: UNAVAILABLE,
    }
)


class Fault(CarpoolError):
    """A request that can't be answered.

    Args:
        status: the HTTP status.
        message: the value, the limit and the remedy.
        code: a word for programs, such as `model_not_found`; empty where the status says it all.
        param: the field of the request that is at fault; empty where it is none.
        retry_after_s: seconds after which a new attempt may succeed; None when waiting does not help.
    """

    def __init__(
        self, status: int, message: str, *, code: str = "", param: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(writable(message))
        self.status = status
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that tell when to come back, or how to show who one is."""
        if self.retry_after_s is None:
            return [(b"www-authenticate", b"Bearer")] if self.status == UNAUTHORIZED else []
        # The whole seconds are HTTP's; OpenAI's clients read the milliseconds first.
        milliseconds = max(1, math.ceil(1000 * self.retry_after_s))
        return [
            (b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))),
            (b"retry-after-ms", b"%d" % milliseconds),
        ]


def bad_request(message: str, *, param: str = "", code: str = "") -> Fault:
    """Return the fault of a request that can never be answered as it is."""
    return Fault(BAD_REQUEST, message, param=param, code=code)


def to_fault(error: CarpoolError, *, position: int = 0, num_items: int = 1) -> Fault:
    """Turn what a batcher or a model said into what a client is told.

    Args:
        error: what was raised.
        position: which item of the request it concerns, from 0.
        num_items: items of the request; one alone is not named.

    >>> str(to_fault(InvalidItem("it is empty"), position=3, num_items=8))
    'item 3 of 8: it is empty'
    """
    if isinstance(error, Fault):
        return error
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), FAILED)
    text = text_of(error)
    message = f"item {position} of {num_items}: {text}" if num_items > 1 else text
    return Fault(status, message, code=writable(type(error).__name__), retry_after_s=_retry_after_s(error))


def _retry_after_s(error: CarpoolError) -> float | None:
    """Return when to come back, if it is told in a way that can be written: a model may raise errors of its own."""
    retry_after_s = getattr(error, "retry_after_s", None) if isinstance(error, Rejected) else None
    if not isinstance(retry_after_s, int | float) or not 0 <= retry_after_s <= _LONGEST_RETRY_S:
        return None
    return retry_after_s
