"""The reader of requests under whatever may come: cut anywhere, mixed with anything, or no request at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carpool.serve.access import Access
from carpool.serve.http.exchange import Reply
from carpool.serve.http.limits import Limits
from carpool.serve.http.reader import Reader, Reading
from carpool.serve.http.routing import Route, Router
from carpool.serve.http.shared import Shared
from tests.serve.http_rig import cut, write_error, written

if TYPE_CHECKING:
    from carpool.serve.http.reader import Turn

LIMITS = Limits(max_body_bytes=2000, max_header_bytes=1000, max_headers=20)
ROUTER = Router(
    [
        Route("POST", "/echo/{name}", lambda exchange: Reply(exchange.body), write_error),
        Route("GET", "/hello", lambda _exchange: Reply(b"hello"), write_error),
    ]
)


class Taker:
    """Notes the requests, in place of a connection."""

    client = "here"
    draining = False

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.num_invited = 0

    def take(self, turn: Turn) -> None:
        """Note a request."""
        self.turns.append(turn)

    def invite(self) -> None:
        """Note that a body is waited for."""
        self.num_invited += 1

    @property
    def told(self) -> list[tuple[object, ...]]:
        """What was taken, to compare."""
        exchanges = [turn.exchange for turn in self.turns]
        return [(e.method, e.path, e.query, e.params, dict(e.headers()), e.body) for e in exchanges]


def read(parts: list[bytes]) -> tuple[Taker, Reader]:
    """Read bytes as they come."""
    taker = Taker()
    reader = Reader(Shared(ROUTER, LIMITS, Access()), taker)  # type: ignore[arg-type]  # a connection, as far as it asks
    for part in parts:
        reader.feed(part)
    return taker, reader


def in_chunks(body: bytes, sizes: list[int]) -> bytes:
    """Write a body in chunks."""
    parts = [part for part in cut(body, [min(size, len(body)) for size in sizes]) if part]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


names = st.text("abc%é/ ", min_size=1, max_size=6)
bodies = st.binary(max_size=300)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Write a request that is one, in some form."""
    if draw(st.booleans()):
        return written("GET", "/hello" + draw(st.sampled_from(["", "?", "?a=b&c"])), X_One=draw(st.sampled_from("ab")))
    body = draw(bodies)
    target = "/echo/" + "".join(f"%{byte:02x}" for byte in draw(names).encode())
    if draw(st.booleans()):
        return written("POST", target, body, X_Tenant="t")
    chunked = in_chunks(body, draw(st.lists(st.integers(0, 300), max_size=4)))
    return written("POST", target, Transfer_Encoding="chunked") + chunked


@settings(max_examples=300, deadline=None)
@given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 2000), max_size=12))
def test_requests_are_the_same_wherever_they_are_cut(whole: list[bytes], at: list[int]) -> None:
    """Also into single bytes."""
    data = b"".join(whole)
    at_once, _ = read([data])
    in_parts, _ = read(cut(data, [min(place, len(data)) for place in at]))
    byte_by_byte, reader = read([bytes([byte]) for byte in data])
    assert len(at_once.turns) == len(whole)
    assert at_once.told == in_parts.told == byte_by_byte.told
    assert reader.reading is Reading.NOTHING


scraps = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"\r\n",
            b"\r\n\r\n",
            b"GET /hello HTTP/1.1\r\n",
            b"POST /echo/a HTTP/1.1\r\n",
            b"Host: x\r\n",
            b"Content-Length: 5\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Expect: 100-continue\r\n",
            b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
            b"5\r\nabcde\r\n",
            b"0\r\n\r\n",
            b"HTTP/1.0\r\n",
            b"CONNECT x:1 HTTP/1.1\r\n",
            b"X: " + b"y" * 600,
        ]
    ),
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(scraps, max_size=12))
def test_whatever_comes_is_read_or_refused(parts: list[bytes]) -> None:
    """Nothing is raised, nothing is held beyond the limits, and what is refused is the last that is taken."""
    taker, reader = read(parts)
    assert all(turn.keep_alive for turn in taker.turns[:-1])
    assert all(len(turn.exchange.body) <= LIMITS.max_body_bytes for turn in taker.turns)
    if reader.reading is Reading.WASTE:
        assert taker.turns
        assert not taker.turns[-1].keep_alive or reader.turn is None


@settings(max_examples=200, deadline=None)
@given(requests(), st.data())
def test_a_byte_that_changes_never_smuggles_a_request(whole: bytes, data: st.DataObject) -> None:
    """There are never more requests than line ends could begin."""
    place = data.draw(st.integers(0, len(whole) - 1))
    changed = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    taker, _ = read([changed, written("GET", "/hello")])
    assert len(taker.turns) <= 1 + changed.count(b"\r\n\r\n") + changed.count(b"0\r\n")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=LIMITS.max_body_bytes + 1, max_size=3000), st.lists(st.integers(0, 3000), max_size=6))
def test_a_body_in_chunks_beyond_the_limit_is_never_held(body: bytes, sizes: list[int]) -> None:
    """It is refused at the chunk that passes it."""
    taker, reader = read([written("POST", "/echo/a", Transfer_Encoding="chunked"), in_chunks(body, sizes)])
    (turn,) = taker.turns
    assert (turn.keep_alive, turn.exchange.body, reader.reading) == (False, b"", Reading.WASTE)
