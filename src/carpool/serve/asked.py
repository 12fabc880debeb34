"""A request for a model to run something, in whichever protocol: read it, run it, answer it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from carpool.serve.call import SMALL_BODY_BYTES, CallOptions
from carpool.serve.faults import bad_request
from carpool.serve.http.exchange import Reply

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carpool.serve.http.exchange import Exchange
    from carpool.serve.served import Served

_FEW_ROWS = 32  # writing more results takes milliseconds as well
PRIORITY_LIMIT = 1_000_000
_LONGEST_MS = 1e12
_USUAL = CallOptions()


class Asked(msgspec.Struct, frozen=True):
    """A request that has been read.

    Args:
        items: as the model takes them, at least one.
        options: what else the request says.
        write: turns one result a row, and the tokens of each row, into the answer.
    """

    items: list[Any]
    options: CallOptions
    write: Callable[[list[Any], tuple[int, ...]], Reply]


Find: TypeAlias = Callable[[], "Served"]
Read: TypeAlias = Callable[["Served"], Asked]


def answer(exchange: Exchange, find: Find, read: Read) -> Awaitable[Reply] | None:
    """Answer a request by running a model.

    Args:
        exchange: the request.
        find: returns the model.
        read: reads the request for that model; safe on any thread.

    Raises:
        Fault: there is no such model, it is not ready, or the request is none that it can answer.
    """
    served = find()
    served.check_ready()
    if len(exchange.body) > SMALL_BODY_BYTES:
        return _read_aside(exchange, find, read, served)
    asked = read(served)
    if len(asked.items) > _FEW_ROWS:
        return _run(exchange, served, asked)

    def write(results: list[Any]) -> Reply:
        return asked.write(results, ticket.lengths)

    ticket = served.submit(asked.items, asked.options, exchange.answer_with(write), num_bytes=len(exchange.body))
    exchange.on_gone(ticket.cancel)
    return None


async def _read_aside(exchange: Exchange, find: Find, read: Read, served: Served) -> Reply:
    asked = await asyncio.to_thread(read, served)
    served = find()  # another version may have come into force meanwhile
    served.check_ready()
    return await _run(exchange, served, asked)


async def _run(exchange: Exchange, served: Served, asked: Asked) -> Reply:
    answered = await served.call(asked.items, asked.options, num_bytes=len(exchange.body))
    return await asyncio.to_thread(asked.write, answered.results, answered.lengths)


def read_options(exchange: Exchange) -> CallOptions:
    """Read what the headers X-Priority and X-Timeout-Ms say of a request.

    Args:
        exchange: the request.

    Raises:
        Fault: one of them is no number, or beyond its limits.
    """
    priority, timeout_ms = exchange.raw_header(b"x-priority"), exchange.raw_header(b"x-timeout-ms")
    if not (priority or timeout_ms or exchange.tenant or exchange.known_id):
        return _USUAL
    return CallOptions(
        timeout_s=_timeout_s(timeout_ms) if timeout_ms else None,
        priority=_priority(priority) if priority else 0,
        tenant=exchange.tenant,
        request_id=exchange.known_id,
    )


def _priority(given: bytes) -> int:
    try:
        few = len(given) < 10  # noqa: PLR2004 - more digits than the limit has
        priority = int(given) if few and b"_" not in given else None  # Python's own numbers may have underscores
    except ValueError:
        priority = None
    if priority is None or not -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
        limits = f"a whole number from {-PRIORITY_LIMIT:,} to {PRIORITY_LIMIT:,}, of which higher goes sooner"
        raise bad_request(f"X-Priority is {given[:40].decode('latin-1')!r}: give {limits}")
    return priority


def _timeout_s(given: bytes) -> float:
    try:
        timeout_ms = math.nan if b"_" in given else float(given)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms <= _LONGEST_MS:
        raise bad_request(f"X-Timeout-Ms is {given[:40].decode('latin-1')!r}: give milliseconds above 0")
    return timeout_ms / 1000
