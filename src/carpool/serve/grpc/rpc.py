"""One call over gRPC: a message in, a message or a status out, whatever happens between."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast

from google.protobuf.message import DecodeError, Message

from carpool.errors import CarpoolError
from carpool.serve.faults import FAILED, TOO_LATE, Fault, bad_request, to_fault
from carpool.serve.grpc.status import retry_metadata, status_code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from grpc.aio import ServicerContext

    from carpool.serve.access import Access
    from carpool.serve.http.routing import Audience

Request = TypeVar("Request", bound=Message)

# A larger message takes milliseconds to read: on a thread, so that the loop serves the others meanwhile.
SMALL_MESSAGE_BYTES = 256 * 1024
_MAX_DETAILS = 2000  # what gRPC sends of a status must fit its limit on metadata, 8 KiB
_MAX_ID = 128
_logger = logging.getLogger("carpool.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and until when the answer is awaited.

    Args:
        tenant: whose share of the capacity is used.
        request_id: what the client calls the call, for traces and logs; empty where it does not.
        deadline_at: when the client gives up, by `time.monotonic`; infinite where it would wait for ever.
        client: where the call comes from.
        metadata: what came with it, by names in lower case.
    """

    tenant: str = ""
    request_id: str = ""
    deadline_at: float = math.inf
    client: str = ""
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """Who calls, for those who read of it later: the tenant, or the client's address."""
        return self.tenant or self.client

    def left_s(self) -> float | None:
        """Return how many seconds the client still waits; None where it would for ever.

        Raises:
            Fault: none are left.
        """
        if self.deadline_at == math.inf:
            return None
        left_s = self.deadline_at - time.monotonic()
        if left_s <= 0:
            raise Fault(TOO_LATE, "the deadline of the call has passed before it could begin: allow more time")
        return left_s


def caller_of(context: ServicerContext[Any, Any], access: Access, audience: Audience) -> Caller:
    """Tell who calls, by the metadata of the call.

    Raises:
        Fault: they are not let in.
    """
    metadata = {
        key.encode(): value if isinstance(value, bytes) else value.encode("latin-1", "replace")
        for key, value in context.invocation_metadata() or ()
    }
    left_s = cast("float | None", context.time_remaining())  # None where there is no deadline, whatever its types say
    return Caller(
        tenant=access.tenant_of(metadata, audience),
        request_id=metadata.get(b"x-request-id", b"")[:_MAX_ID].decode("latin-1"),
        deadline_at=math.inf if left_s is None else time.monotonic() + left_s,
        client=context.peer(),
        metadata=metadata,
    )


class Unary(Generic[Request]):
    """Handles the calls of one method that takes one message and gives one.

    Messages come and go as bytes, so that one that is malformed is refused in words, and a large one is read aside.

    Args:
        message: what it takes.
        answer: answers it; may raise `CarpoolError`.
        access: lets callers in.
        audience: who calls it.
    """

    def __init__(
        self,
        message: type[Request],
        answer: Callable[[Request, Caller], Awaitable[Message]],
        *,
        access: Access,
        audience: Audience = "clients",
    ) -> None:
        self._message = message
        self._answer = answer
        self._access = access
        self._audience = audience

    async def handle(self, data: bytes, context: ServicerContext[Any, Any]) -> bytes:
        """Answer one call."""
        try:
            caller = caller_of(context, self._access, self._audience)
            request = await parse(self._message, data)
            return (await self._answer(request, caller)).SerializeToString()
        except CarpoolError as error:
            await abort(context, to_fault(error))
        except Exception:
            _logger.exception("unexpected failure, a fault in carpool, in a gRPC call of %s", self._message.__name__)
            await abort(context, unexpected())


async def parse(message: type[Request], data: bytes) -> Request:
    """Read a message.

    Raises:
        Fault: the bytes are none.
    """
    try:
        if len(data) <= SMALL_MESSAGE_BYTES:
            return message.FromString(data)
        return await asyncio.to_thread(message.FromString, data)
    except DecodeError:
        kind = message.__name__
        raise bad_request(f"the message of {len(data):,} bytes is no {kind}: check the client's definition") from None


def unexpected() -> Fault:
    """Return what a client is told of a failure that nobody thought of."""
    return Fault(FAILED, "the server failed unexpectedly: its log says how")


async def abort(context: ServicerContext[Any, Any], fault: Fault) -> NoReturn:
    """End a call with why it is not answered.

    Raises:
        Exception: gRPC's own, by which it ends the call.
    """
    await context.abort(status_code(fault), str(fault)[:_MAX_DETAILS], retry_metadata(fault))
