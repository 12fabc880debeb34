"""The way in: reads a request whole, has a replica answer it, and asks another one where that replica is lost.

Whatever may be asked here can be asked again: it changes nothing, and what would is refused. A request whose replica
dies before it has answered is therefore run once more, by another one. Only if that dies as well is the client told to
come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.serve import oip_routes, openai
from carpool.serve.faults import UNAVAILABLE, Fault, bad_request
from carpool.serve.http.exchange import Reply
from carpool.serve.http.routing import Match, Route, Router
from carpool.serve.ray.replica import Asked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from carpool.serve.http.asgi import Application, Message, Receive, Scope, Send
    from carpool.serve.http.exchange import Exchange
    from carpool.serve.ray.replica import Answered

MOST_TRIES = 2
_RETRY_AFTER_S = 1.0
_CHANGES = ("/load", "/unload")
_OF_CARRIER = {b"content-length", b"content-type", b"x-request-id", b"connection", b"transfer-encoding"}
_NOT_PASSED_ON = {b"content-length", b"content-encoding", b"transfer-encoding", b"connection", b"x-tenant"}


class Front(Router):
    """Leads every path to the replicas, which know what there is.

    Args:
        ask: has some replica answer.
        lost: what it raises where the replica has died, or can't be reached.
    """

    def __init__(self, ask: Callable[[Asked], Awaitable[Answered]], *, lost: tuple[type[Exception], ...]) -> None:
        self._ask = ask
        self._lost = lost
        super().__init__(
            [
                Route("*", "/v1/", self._pass_on, openai.write_error),
                Route("*", "/v2/health/", self._pass_on, oip_routes.write_error, audience="health"),
                Route("*", "/metrics", self._pass_on, oip_routes.write_error, audience="metrics"),
                Route("*", "/", self._pass_on, oip_routes.write_error),
            ]
        )

    def match(self, method: str, target: bytes) -> Match:
        """Find how a request is passed on, which never fails.

        Args:
            method: of the request.
            target: its path and query.
        """
        del method
        path, _, query = target.decode("latin-1").partition("?")
        route = next((route for route in self.routes if path.startswith(route.pattern)), self.routes[-1])
        return Match(route, path, query, {})

    async def _pass_on(self, exchange: Exchange) -> Reply:
        if exchange.method == "PATCH" or exchange.path.endswith(_CHANGES):
            raise bad_request(
                "models and policies can't be changed over the network while they run on Ray, where only one replica "
                "would hear of it: change the files or the settings, and start anew"
            )
        asked = Asked(
            method=exchange.method,
            path=exchange.path.encode("latin-1"),
            query=exchange.query.encode("latin-1"),
            headers=(*_passed_on(exchange), (b"x-tenant", exchange.tenant.encode("latin-1"))),
            body=exchange.body,
            client=exchange.client,
        )
        for _ in range(MOST_TRIES):
            try:
                answered = await self._ask(asked)
            except self._lost:
                continue
            return _as_reply(answered)
        raise Fault(
            UNAVAILABLE,
            f"{MOST_TRIES} replicas were lost while they ran this request: try again soon, and see their logs for why",
            retry_after_s=_RETRY_AFTER_S,
        )


async def refuse(asked: Asked) -> Answered:
    """Have nobody answer: the server stops.

    Raises:
        Fault: always.
    """
    del asked
    raise Fault(UNAVAILABLE, "the server is stopping: ask another one, or come back", retry_after_s=_RETRY_AFTER_S)


def _passed_on(exchange: Exchange) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in exchange.headers() if name not in _NOT_PASSED_ON]


def _as_reply(answered: Answered) -> Reply:
    """Give a replica's answer to the connection, which writes length and type itself."""
    content_type = dict(answered.headers).get(b"content-type", b"")
    headers = [(name, value) for name, value in answered.headers if name not in _OF_CARRIER]
    return Reply(answered.body, answered.status, headers, content_type)


def unnamed(application: Application) -> Application:
    """Leave the naming of answers to the proxy of Ray Serve, which writes an X-Request-Id of its own into each.

    Args:
        application: whose answers are to have none; it is told the proxy's name of a request, and keeps to it.
    """

    async def without_ids(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unnamed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name, value) for name, value in message["headers"] if name != b"x-request-id"]
                message = {**message, "headers": headers}
            await send(message)

        await application(scope, receive, send_unnamed)

    return without_ids
