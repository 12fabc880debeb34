"""Requests in bytes over a loopback socket: what is read, what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import zlib
from typing import Any

import pytest

from tests.serve.http_rig import serving, until, written

CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_request_is_answered() -> None:
    """With a date and the content's type and length."""
    async with serving() as server:
        answer = await server.ask("POST", "/echo?a=1", b"abc", X_Tenant="team")
        (exchange,) = server.desk.asked
    assert (answer.status, answer.body) == (200, b"abc")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers.pop("date"))
    assert answer.headers == {"content-type": "application/octet-stream", "content-length": "3"}
    told = (exchange.method, exchange.path, exchange.query, exchange.tenant, exchange.client)
    assert told == ("POST", "/echo", "a=1", "team", "127.0.0.1")


async def test_one_connection_carries_many_requests() -> None:
    """Also after ones that were refused by their endpoints."""
    async with serving() as server:
        client = await server.connect()
        answers = [await client.ask("GET", path) for path in ("/hello", "/refused", "/none", "/later", "/hello")]
        assert server.listener.num_connections == 1
    assert [answer.status for answer in answers] == [200, 400, 404, 200, 200]


async def test_pipelined_requests_are_answered_in_order() -> None:
    """One that takes its time holds back those behind it, and nobody else."""
    async with serving() as server:
        client = await server.connect()
        client.write(written("POST", "/hold", b"1") + written("GET", "/hello") + written("POST", "/echo", b"last"))
        await server.desk.came.wait()
        assert (await server.ask("GET", "/hello")).status == 200
        assert len(server.desk.asked) == 1
        server.desk.held[0].fail(TimeoutError())
        answers = [await client.answer() for _ in range(3)]
    assert [(answer.status, answer.body[:5]) for answer in answers] == [
        (500, b'{"err'),
        (200, b"hello"),
        (200, b"last"),
    ]


async def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    """Without nesting, and without holding more of them than a few at a time."""
    async with serving() as server:
        client = await server.connect()
        client.write(b"".join(written("GET", f"/hello?{number}") for number in range(1000)))
        answers = [await client.answer() for _ in range(1000)]
    assert [answer.body for answer in answers] == [b"hello%d" % number for number in range(1000)]


async def test_chunks_are_one_body() -> None:
    """Extensions and trailers are passed over."""
    async with serving() as server:
        client = await server.connect()
        client.write(CHUNKED + b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n" + written("GET", "/hello"))
        answers = [await client.answer(), await client.answer()]
    assert [answer.body for answer in answers] == [b"abcde", b"hello"]
    assert not server.desk.asked[0].raw_header(b"x-trailer")


async def test_head_is_answered_without_a_body() -> None:
    """With the length that GET would have, and the connection goes on."""
    async with serving() as server:
        client = await server.connect()
        head = await client.ask("HEAD", "/hello")
        assert (head.status, head.headers["content-length"]) == (200, "5")
        assert (await client.ask("GET", "/hello")).body == b"hello"


async def test_a_client_that_asks_whether_to_go_on_is_told() -> None:
    """And one whose body would be refused learns that before it sends it."""
    async with serving() as server:
        client = await server.connect()
        client.write(written("POST", "/echo", Expect="100-continue", Content_Length="3"))
        assert (await client.answer()).status == 100
        client.write(b"abc")
        assert (await client.answer()).body == b"abc"
        client.write(written("POST", "/small", Expect="100-continue", Content_Length="11"))
        assert (await client.answer()).status == 413
        other = await server.ask("GET", "/hello", Expect="the-impossible")
    assert other.status == 417


async def test_old_clients_are_served() -> None:
    """HTTP/1.0 closes after an answer, unless asked not to."""
    async with serving() as server:
        client = await server.connect()
        client.write(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        kept = await client.answer()
        client.write(b"GET /stream/2 HTTP/1.0\r\n\r\n")
        closed = await client.answer()
    assert (kept.headers["connection"], kept.body) == ("keep-alive", b"hello")
    assert (closed.headers["connection"], closed.body) == ("close", b"part 0;part 1;")


async def test_a_client_that_wants_to_close_is_answered_first() -> None:
    """What it sends after that is dropped."""
    async with serving() as server:
        client = await server.connect()
        client.write(written("GET", "/hello", Connection="close") + written("GET", "/hello"))
        answer = await client.answer()
        assert (answer.headers["connection"], await client.rest()) == ("close", b"")
    assert len(server.desk.asked) == 1


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://other/hello?x", "/hello"), ("/hel%6Co?x", "/hello")],
)
async def test_targets_come_in_several_forms(target: str, path: str) -> None:
    """Absolute ones, and ones with escapes."""
    async with serving() as server:
        assert (await server.ask("GET", target)).body == b"hellox"
    assert server.desk.asked[0].path == path


async def test_what_no_route_takes_is_refused() -> None:
    """By path, or by method with those that there are."""
    async with serving() as server:
        none = await server.ask("GET", "/nothing/here")
        wrong = await server.ask("DELETE", "/hello")
        asterisk = await server.ask("OPTIONS", "*")
    assert (none.status, wrong.status, asterisk.status) == (404, 405, 404)
    assert wrong.headers["allow"] == "GET, HEAD"
    assert b"there is nothing at /nothing/here: what there is begins with /broken" in none.body


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400),  # a client that speaks TLS
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\nabc", 400),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc", 501),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (CHUNKED + b"zz\r\nabc\r\n", 400),
        (CHUNKED + b"fffffffffffffffff\r\nabc\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n folded: 1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nbad name: 1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 120 + b"\r\n", 431),
        (b"GET /" + b"a" * 40_000, 431),
        (b"GET /" + b"a" * 33_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET /hello?" + b"a" * 16_400 + b" HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 16_400 + b"\r\n\r\n", 431),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /hello HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(120)) + b"\r\n", 431),
    ],
)
async def test_what_is_no_request_is_refused_and_the_connection_closed(request_head: bytes, status: int) -> None:
    """Nothing of it reaches an endpoint."""
    async with serving(linger_s=0.05, idle_timeout_s=0.2) as server:
        client = await server.connect()
        client.write(request_head)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await client.rest() == b""
        await until(lambda: server.listener.num_connections == 0)
    assert server.desk.asked == []


async def test_an_upgrade_that_is_not_spoken_here_is_passed_over() -> None:
    """The request is answered as if it had not asked."""
    async with serving(linger_s=0.05, idle_timeout_s=0.2) as server:
        client = await server.connect()
        client.write(written("GET", "/hello", Connection="Upgrade, HTTP2-Settings", Upgrade="h2c"))
        assert (await client.answer()).body == b"hello"


async def test_the_limit_of_heads_counts_their_first_line_to_the_byte() -> None:
    """Of a request that comes alone, and of one that comes right behind another."""
    start, end = b"GET /hello?", b" HTTP/1.1\r\nHost: x\r\n\r\n"
    just = start + b"a" * 700 + end
    async with serving(max_header_bytes=len(just) - 2) as server:  # the empty line is not counted
        client = await server.connect()
        client.write(just + just)
        assert [(await client.answer()).status for _ in range(2)] == [200, 200]
        client.write(just + start + b"a" + just.removeprefix(start))
        assert [(await client.answer()).status for _ in range(2)] == [200, 431]


async def test_a_body_of_a_gibibyte_is_refused_before_it_is_read() -> None:
    """By its announced length; what the client sends meanwhile is dropped."""
    async with serving() as server:
        client = await server.connect()
        client.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
        answer = await client.answer()
        for _ in range(64):
            client.write(bytes(1 << 16))
            await asyncio.sleep(0)
        assert await client.rest() == b""
    assert answer.status == 413
    assert b"more than the 16 MiB that are read: send less at once, or allow more with --max-body" in answer.body
    assert server.desk.asked == []


async def test_chunks_beyond_the_limit_are_refused() -> None:
    """As soon as they are."""
    async with serving(max_body_bytes=1000) as server:
        client = await server.connect()
        client.write(CHUNKED + (b"1f4\r\n" + b"x" * 500 + b"\r\n") * 3)
        answer = await client.answer()
        just = await server.ask("POST", "/echo", b"x" * 1000)
        small = await server.ask("POST", "/small", b"x" * 11)
    assert (answer.status, just.status, small.status) == (413, 200, 413)


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "Identity"])
@pytest.mark.parametrize("size", [10, 1_000_000])
async def test_bodies_come_compressed(coding: str, size: int) -> None:
    """And are what they were before."""
    body = bytes(range(250)) * (size // 250) or b"0123456789"
    ways: dict[str, Any] = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress}
    compressed = ways.get(coding, bytes)(body)
    async with serving() as server:
        answer = await server.ask("POST", "/echo", compressed, Content_Encoding=coding)
    assert (answer.status, answer.body) == (200, body)


def raw_deflate(body: bytes) -> bytes:
    """Compress without zlib's frame, as some clients do."""
    deflating = zlib.compressobj(wbits=-15)
    return deflating.compress(body) + deflating.flush()


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (gzip.compress(bytes(100_000_000), 1), "gzip", 413),  # a bomb of 400 kB
        (zlib.compress(bytes(1_000_000)), "deflate", 413),  # a small one
        (gzip.compress(b"abc")[:-4], "gzip", 400),
        (gzip.compress(b"abc") + b"more", "gzip", 400),
        (b"not gzip", "gzip", 400),
        (raw_deflate(b"abc"), "deflate", 200),
        (b"abc", "br", 415),
        (gzip.compress(b"abc"), "gzip, gzip", 415),
    ],
)
async def test_compressed_bodies_are_bounded_and_checked(body: bytes, coding: str, status: int) -> None:
    """What they inflate to is never more than may come."""
    async with serving(max_body_bytes=500_000) as server:
        client = await server.connect()
        answer = await client.ask("POST", "/echo", body, Content_Encoding=coding)
        after = await client.ask("GET", "/hello")
    assert (answer.status, after.status) == (status, 200)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip, deflate", "gzip"), ("deflate", "deflate"), ("br", None), ("gzip;q=0", None), ("", None)],
)
async def test_large_answers_are_compressed_for_those_who_ask(accepted: str, coding: str | None) -> None:
    """Small ones never are."""
    async with serving() as server:
        client = await server.connect()
        large = await client.ask("GET", "/large/100000", Accept_Encoding=accepted)
        small = await client.ask("GET", "/large/1000", Accept_Encoding=accepted)
    assert (large.headers.get("content-encoding"), small.headers.get("content-encoding")) == (coding, None)
    unpack: Any = {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding]
    assert unpack(large.body) == b"x" * 100_000


@pytest.mark.parametrize(("given", "echoed"), [("a-1", "a-1"), ("two words", None), ("x" * 200, None)])
async def test_a_request_id_comes_back(given: str, echoed: str | None) -> None:
    """If it is fit to be written."""
    async with serving() as server:
        answer = await server.ask("GET", "/hello", X_Request_Id=given)
    assert answer.headers.get("x-request-id") == echoed


async def test_a_failure_of_ours_is_logged_by_the_id_that_the_client_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """And tells the client nothing else."""
    async with serving() as server:
        answer = await server.ask("GET", "/broken")
    assert answer.status == 500
    assert answer.headers["x-request-id"].encode() in answer.body
    assert answer.headers["x-request-id"] in caplog.text
    assert "a secret" in caplog.text
    assert b"secret" not in answer.body


async def test_answers_are_sent_while_they_are_made() -> None:
    """In chunks, after which the connection goes on."""
    async with serving() as server:
        client = await server.connect()
        answer = await client.ask("GET", "/stream/3")
        head = await client.ask("HEAD", "/stream/3")
        after = await client.ask("GET", "/hello")
    assert (answer.headers["transfer-encoding"], answer.headers["x-kind"]) == ("chunked", "parts")
    assert (answer.body, head.status, after.body) == (b"part 0;part 1;part 2;", 200, b"hello")


async def test_an_answer_that_breaks_in_the_midst_breaks_the_connection() -> None:
    """So that nobody takes a part for the whole."""
    async with serving() as server:
        client = await server.connect()
        client.write(written("GET", "/stream/2?break"))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await client.answer()


async def test_nothing_waits_to_be_sent_together_with_more() -> None:
    """Nagle's algorithm is off on both ends of our sockets."""
    async with serving() as server:
        await server.ask("GET", "/hello")
        transport = server.listener._shared.connections.copy().pop()._transport  # type: ignore[attr-defined]
        raw = transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
