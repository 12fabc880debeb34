"""Heads that came before: nothing is read otherwise because of them, and only those are kept that may be."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.errors import CarpoolError
from carpool.serve.access import Access
from carpool.serve.http.exchange import Reply
from carpool.serve.http.known import MOST_HEAD_BYTES, KnownHeads
from carpool.serve.http.limits import Limits
from carpool.serve.http.reader import Reader
from carpool.serve.http.routing import Route, Router
from carpool.serve.http.shared import Shared
from tests.serve.http_rig import cut, serving, write_error, written

if TYPE_CHECKING:
    from carpool.serve.http.reader import Turn
    from carpool.serve.http.routing import Match

LIMITS = Limits(max_body_bytes=40, max_header_bytes=600, max_headers=8)
KEY = "a-key-of-16-chars"


class CountingRouter(Router):
    """Counts how often it is asked, which is once for each head that is parsed."""

    def __init__(self) -> None:
        super().__init__(
            [
                Route("POST", "/echo/{name}", lambda exchange: Reply(exchange.body), write_error),
                Route("POST", "/small", lambda exchange: Reply(exchange.body), write_error, max_body_bytes=3),
                Route("GET", "/hello", lambda _exchange: Reply(b"hello"), write_error, audience="health"),
            ]
        )
        self.num_matched = 0

    def match(self, method: str, target: bytes) -> Match:
        """Count, and find the route."""
        self.num_matched += 1
        return super().match(method, target)


class Client:
    """Sends to a server, and notes what is taken of it, in place of a connection."""

    client = "here"
    draining = False

    def __init__(self, shared: Shared) -> None:
        self.turns: list[Turn] = []
        self.num_invited = 0
        self.reader = Reader(shared, self)  # type: ignore[arg-type]  # a connection, as far as it asks

    def send(self, *packets: bytes) -> None:
        """Send packets."""
        for packet in packets:
            self.reader.feed(packet)

    def take(self, turn: Turn) -> None:
        """Note a request."""
        self.turns.append(turn)

    def invite(self) -> None:
        """Note that a body is waited for."""
        self.num_invited += 1

    @property
    def told(self) -> tuple[object, ...]:
        """All that can be seen of what was read."""
        reader = self.reader
        return [_told(turn) for turn in self.turns], self.num_invited, reader.reading, reader.unread, reader.since


def _told(turn: Turn) -> tuple[object, ...]:
    exchange = turn.exchange
    try:
        answer: object = turn.route.endpoint(exchange)
    except CarpoolError as fault:
        answer = str(fault)
    asked = (exchange.method, exchange.path, exchange.query, exchange.params, list(exchange.headers()), exchange.body)
    whose = (exchange.tenant, exchange.known_id, exchange.client)
    return asked, whose, (turn.keep_alive, turn.old, turn.coding), turn.route.pattern, answer


def server(*, most: int | None = None, keys: dict[str, str] | None = None) -> Shared:
    """Return what the connections of a server share.

    Args:
        most: heads that it keeps; None leaves that to it.
        keys: tenants by key.
    """
    shared = Shared(CountingRouter(), LIMITS, Access(keys))
    shared.now = 0.0
    if most is not None:
        shared.known_heads = KnownHeads(most)
    return shared


def num_parsed(shared: Shared) -> int:
    """Return how many heads were parsed."""
    assert isinstance(shared.router, CountingRouter)
    return shared.router.num_matched


HEADS = [
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
    "POST /echo/%C3%A9?q=1 HTTP/1.1\r\nHost: x\r\ncontent-length: {}\r\nConnection: keep-alive\r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nX-Request-Id: one\r\nX-Tenant: t\r\nContent-Length:  {} \r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nX-Tenant: a b\r\nContent-Length: {}\r\n\r\n",
    "POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
    "POST /nowhere HTTP/1.1\r\nHost: x\r\nA: 1\r\nA: 2\r\nContent-Length: {}\r\n\r\n",
    "POST http://x/echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
    "\r\nPOST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
    "\r\n\r\nPOST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
    "POST /echo/a HTTP/1.1\nHost: x\nContent-Length: {}\n\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Length: 1\r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Encoding: gzip\r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "POST /echo/a HTTP/1.0\r\nContent-Length: {}\r\nConnection: keep-alive\r\n\r\n",
    "POST /echo/a HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
    "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n",
    "HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n",
    "GET /hello HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
]
BODIES = [b"", b"\n", b"GET", b"\r\n\r\n", b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n", b"x" * 41]


@st.composite
def packets(draw: st.DrawFn) -> list[bytes]:
    """Write what one client sends: requests, most of them plain, a packet each, or cut and joined anyhow."""
    heads = st.one_of(st.sampled_from(HEADS[:3]), st.sampled_from(HEADS))
    sent: list[bytes] = []
    cuts: set[int] = set()
    num_bytes = 0
    for head, body in draw(st.lists(st.tuples(heads, st.sampled_from(BODIES)), min_size=1, max_size=6)):
        has_length = "{}" in head
        sent.append(head.format(len(body)).encode() + (body if has_length else b""))
        num_bytes += len(sent[-1])
        cuts |= draw(st.sampled_from([set(), {num_bytes}, {num_bytes}, {num_bytes - 1}, {num_bytes + 1}]))
    cuts |= set(draw(st.lists(st.integers(0, num_bytes), max_size=3)))
    return [packet for packet in cut(b"".join(sent), sorted(cuts - {num_bytes + 1})) if packet]


@settings(max_examples=400, deadline=None)
@given(st.lists(packets(), min_size=1, max_size=4))
def test_what_is_read_is_the_same_whether_heads_are_known_or_not(clients: list[list[bytes]]) -> None:
    """Of plain and odd requests, cut anywhere, on connections that share what they know."""
    knowing, forgetting = server(), server(most=0)
    for sent in [*clients, *clients]:  # what was new at first is known the second time
        by_knowing, by_forgetting = Client(knowing), Client(forgetting)
        for packet in sent:
            by_knowing.send(packet)
            by_forgetting.send(packet)
            assert by_knowing.told == by_forgetting.told
    assert not len(forgetting.known_heads)
    assert num_parsed(knowing) <= num_parsed(forgetting)


def test_a_head_is_parsed_once_for_all_connections() -> None:
    """The bodies differ, also in what they look like."""
    shared = server()
    one, other = Client(shared), Client(shared)
    one.send(written("POST", "/echo/a", b"abcd"), written("POST", "/echo/a", b"\r\n\r\n"))
    other.send(written("POST", "/echo/a", b"efgh"))
    assert [turn.exchange.body for turn in (*one.turns, *other.turns)] == [b"abcd", b"\r\n\r\n", b"efgh"]
    assert num_parsed(shared) == 1


def test_known_requests_in_one_packet_are_taken_one_after_the_other() -> None:
    """The last one is cut short, and goes on in the next packet."""
    shared, request = server(), written("POST", "/echo/a", b"abcd")
    client = Client(shared)
    client.send(request, 3 * request + request[:-2], request[-2:] + request)
    assert [turn.exchange.body for turn in client.turns] == 6 * [b"abcd"]
    assert num_parsed(shared) == 3  # the first, the one cut short, and the one behind its end


@pytest.mark.parametrize(
    "head",
    [head for head in HEADS[7:] if not head.startswith(("\r\nP", "GET /hello HTTP/1.1\r\nHost: x\r\n\r", "HEAD"))],
)
def test_an_unusual_head_is_not_kept(head: str) -> None:
    """Whatever more it needs than its route and a body of a known length."""
    shared = server()
    Client(shared).send(head.format(1).encode() + b"x")
    assert not len(shared.known_heads)


def test_the_rest_of_a_request_is_no_head_of_its_own() -> None:
    """A single byte of it came in the packet of the request before."""
    shared, request = server(), written("POST", "/echo/a", b"abcd")
    for _ in range(2):
        client = Client(shared)
        client.send(request + request[:1], request[1:])
        assert [turn.exchange.method for turn in client.turns] == ["POST", "POST"]
    assert len(shared.known_heads) == 1


def test_a_head_that_is_too_long_is_not_kept() -> None:
    """So that what is kept is bounded."""
    shared = Shared(CountingRouter(), Limits(), Access())
    head = "GET /hello HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n"
    most = MOST_HEAD_BYTES - len(head.format(""))
    client = Client(shared)
    client.send(head.format("y" * (most + 1)).encode())
    assert not len(shared.known_heads)
    client.send(head.format("y" * most).encode())
    assert len(shared.known_heads) == 1


def test_ever_new_heads_are_forgotten() -> None:
    """All at once, when there are more than may be kept."""
    shared = server(most=3)
    client = Client(shared)
    sizes = []
    for number in range(7):
        client.send(written("GET", "/hello", X_Request_Id=str(number)))
        sizes.append(len(shared.known_heads))
    assert sizes == [1, 2, 3, 1, 2, 3, 1]


def test_who_has_no_key_is_refused_however_often_it_asks() -> None:
    """What is refused is not kept; what was let in keeps its tenant."""
    shared = server(keys={KEY: "team-a"})
    for _ in range(2):
        client = Client(shared)
        client.send(written("POST", "/echo/a", b"abcd", X_API_Key="another-key-of-16"))
        assert not client.turns[0].keep_alive
    assert not len(shared.known_heads)
    client = Client(shared)
    client.send(*(2 * [written("POST", "/echo/a", b"abcd", X_API_Key=KEY)]))
    assert [turn.exchange.tenant for turn in client.turns] == ["team-a", "team-a"]


async def test_known_requests_are_answered_and_named_alike() -> None:
    """On a socket: the second answer is the first, but for its date."""
    async with serving() as served:
        client = await served.connect()
        first = await client.ask("POST", "/echo", b"abcd", X_Request_Id="one")
        second = await client.ask("POST", "/echo", b"efgh", X_Request_Id="one")
        assert (first.status, first.body, second.status, second.body) == (200, b"abcd", 200, b"efgh")
        assert first.headers | {"date": ""} == second.headers | {"date": ""}


async def test_a_refused_request_says_why_though_its_body_was_to_be_inflated() -> None:
    """Its body is not read, so there is nothing to inflate."""
    async with serving(max_body_bytes=10) as served:
        answer = await served.ask("POST", "/echo", gzip.compress(b"abcd"), Content_Encoding="gzip")
        assert answer.status == 413
