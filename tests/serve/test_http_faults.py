"""Clients that leave, dawdle or come in crowds: nobody else is disturbed, and nothing is kept of them."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest

from carpool.errors import ConfigError
from carpool.serve.access import Access
from carpool.serve.http.exchange import Reply
from carpool.serve.http.tls import load_tls
from tests.serve.http_rig import Desk, serving, until, written

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.serve.http.exchange import Stream
    from tests.serve.http_rig import Client

KEY = "a-key-of-sufficient-length"


# ------------------------------------------------------------------------------------------------ those who leave


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /ech",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{12",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_may_leave_in_the_midst_of_its_request(sent: bytes, how: str) -> None:
    """No endpoint hears of it."""
    async with serving() as server:
        client = await server.connect()
        client.write(sent)
        await until(lambda: server.listener.num_connections == 1)
        client.reset() if how == "reset" else client.writer.close()
        await until(lambda: server.listener.num_connections == 0)
        assert (await server.ask("GET", "/hello")).status == 200
    assert len(server.desk.asked) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_while_it_waits_is_heard_of(how: str) -> None:
    """What waits behind its request is never begun; an answer that comes then goes nowhere."""
    async with serving() as server:
        client = await server.connect()
        client.write(written("POST", "/hold", b"1") + written("GET", "/hello"))
        await server.desk.came.wait()
        client.reset() if how == "reset" else client.writer.close()
        await until(lambda: server.listener.num_connections == 0)
        (exchange,) = server.desk.held
        exchange.respond(Reply(b"too late"))
    assert (server.desk.num_gone, exchange.gone, server.desk.asked) == (1, True, [])


async def test_a_task_is_cancelled_when_its_client_leaves() -> None:
    """At its next await."""
    async with serving() as server:
        await (await server.connect()).writer.drain()
        held = await server.connect()
        held.write(written("POST", "/hold", b"1"))
        await server.desk.came.wait()
        server.desk.came.clear()
        client = await server.connect()
        client.write(written("GET", "/later"))
        await server.desk.came.wait()
        client.reset()
        await until(lambda: server.desk.tasks_cancelled == 1)


async def test_a_client_that_leaves_in_the_midst_of_its_answer_is_let_go() -> None:
    """Whoever makes the answer is told at the next part."""
    desk = Desk()
    async with serving(desk=desk) as server:
        client = await server.connect(buffer_bytes=4096)
        client.write(written("POST", "/hold", b"1"))
        await desk.came.wait()
        stream: Stream = await desk.held[0].stream(200, (), b"text/plain")
        await stream.write(b"first")
        await client.reader.readuntil(b"first")
        client.reset()
        await until(lambda: server.listener.num_connections == 0)
        with pytest.raises(ConnectionError, match="the client has gone"):
            await stream.write(b"second")
    assert desk.num_gone == 1


# --------------------------------------------------------------------------------------------------- those who dawdle


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (b"GET /hello HTTP/1.1\r\nHost: x\r\nX-Slow: ", "head"),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{12", "body"),
    ],
)
async def test_a_request_that_does_not_come_to_its_end_is_told_so(sent: bytes, what: str) -> None:
    """However many of its bytes still trickle in."""
    async with serving(header_timeout_s=0.05, body_timeout_s=0.05, linger_s=0.05) as server:
        client = await server.connect()
        client.write(sent)
        trickle = asyncio.create_task(_trickle(client))
        answer = await client.answer()
        await until(lambda: server.listener.num_connections == 0)
        trickle.cancel()
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert f"the {what} of the request did not come within 0.05 s".encode() in answer.body


async def _trickle(client: Client) -> None:
    while True:
        client.write(b"x")
        await asyncio.sleep(0.005)


async def test_a_connection_without_a_request_is_closed_after_a_while() -> None:
    """A fresh one, and one that has been answered; not one that waits for its answer."""
    async with serving(idle_timeout_s=0.05) as server:
        fresh, answered, waits = [await server.connect() for _ in range(3)]
        await answered.ask("GET", "/hello")
        waits.write(written("POST", "/hold", b"1"))
        assert (await fresh.rest(), await answered.rest()) == (b"", b"")
        assert server.listener.num_connections == 1
        server.desk.held[0].respond(Reply(b"at last"))
        assert (await waits.answer()).body == b"at last"


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Once it has taken nothing for a while; others are answered meanwhile."""
    async with serving(write_timeout_s=0.05) as server:
        client = await server.connect(buffer_bytes=4096)
        client.reader._limit = 1  # type: ignore[attr-defined]  # asyncio then reads no further ahead
        client.write(written("GET", "/large/20000000") * 2)
        await until(lambda: server.listener.num_connections == 1)
        assert (await server.ask("GET", "/hello")).status == 200
        server.hang_up(but=client)
        await until(lambda: server.listener.num_connections == 0)


async def test_a_client_that_reads_slowly_gets_all_of_its_answer() -> None:
    """As long as it makes progress."""
    async with serving(write_timeout_s=0.2) as server:
        client = await server.connect(buffer_bytes=4096)
        client.write(written("GET", "/large/3000000", Connection="close"))
        num_bytes = 0
        while part := await client.reader.read(200_000):
            num_bytes += len(part)
            await asyncio.sleep(0.01)
    assert num_bytes > 3_000_000


async def test_no_more_is_read_from_a_client_than_is_answered() -> None:
    """Requests that wait for their turn stay in the client's own buffers."""
    async with serving() as server:
        client = await server.connect()
        client.write(written("POST", "/hold", b"1"))
        body = bytes(100_000)
        for _ in range(300):
            client.write(written("POST", "/echo", body))
        await server.desk.came.wait()
        await until(lambda: client.writer.transport.get_write_buffer_size() > 0)
        connection = next(iter(server.listener._shared.connections))
        assert len(connection._turns) < 40  # type: ignore[attr-defined]
        server.desk.held[0].respond(Reply(b""))
        await client.answer()
        assert [(await client.answer()).status for _ in range(300)] == [200] * 300


# --------------------------------------------------------------------------------------------------- those in crowds


async def test_two_thousand_idle_connections_are_borne() -> None:
    """The next one is served as if it were alone."""
    async with serving() as server:
        for _ in range(2000):
            await server.connect()
        await until(lambda: server.listener.num_connections == 2000)
        answer = await asyncio.wait_for(server.ask("GET", "/hello"), 5)
    assert answer.status == 200


async def test_a_connection_too_many_is_told_so() -> None:
    """And there is room again when another one has left."""
    async with serving(max_connections=2, linger_s=0.05, idle_timeout_s=5.0) as server:
        first, _ = await server.connect(), await server.connect()
        await until(lambda: server.listener.num_connections == 2)
        third = await server.connect()
        refused = await third.answer()
        third.writer.close()
        first.writer.close()
        await until(lambda: server.listener.num_connections == 1)
        assert (await server.ask("GET", "/hello")).status == 200
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert b"there are 2 connections, which is the most" in refused.body


# ------------------------------------------------------------------------------------------------------ the end


async def test_what_was_accepted_is_answered_before_the_end() -> None:
    """With the news that the connection closes; idle ones close, and new ones are not taken."""
    async with serving() as server:
        idle, busy = await server.connect(), await server.connect()
        await idle.ask("GET", "/hello")
        busy.write(written("POST", "/hold", b"1"))
        await server.desk.came.wait()
        draining = asyncio.create_task(server.listener.drain(30.0))
        assert await idle.rest() == b""
        (exchange,) = server.desk.held
        assert exchange.draining
        with pytest.raises(ConnectionError):
            await server.connect()
        exchange.respond(Reply(b"done"))
        answer = await busy.answer()
        assert await draining
    assert (answer.body, answer.headers["connection"]) == (b"done", "close")


async def test_what_outlasts_the_end_is_given_up() -> None:
    """With an answer, and whatever is done for it is withdrawn."""
    async with serving() as server:
        busy = await server.connect()
        busy.write(written("POST", "/hold", b"1"))
        await server.desk.came.wait()
        assert not await server.listener.drain(0.0)
        answer = await busy.answer()
    assert (answer.status, server.desk.num_gone) == (503, 1)
    assert b"the server is stopping and has given this up: ask again" in answer.body


async def test_an_end_under_load_loses_nothing() -> None:
    """Every request that a client could send is answered, the last one of each saying so."""
    async with serving() as server:
        clients = [await server.connect() for _ in range(20)]
        asking = [asyncio.create_task(_ask_until_closed(client)) for client in clients]
        await asyncio.sleep(0.05)
        assert await server.listener.drain(30.0)
        num_answered = [await task for task in asking]
    assert sum(num_answered) == len(server.desk.asked)
    assert min(num_answered) > 0


async def _ask_until_closed(client: Client) -> int:
    num_answered, closes = 0, False
    while not closes:
        answer = await client.ask("GET", "/hello")
        assert answer.status == 200
        num_answered += 1
        closes = answer.headers.get("connection") == "close"
    return num_answered


# ------------------------------------------------------------------------------------------------------- who may


async def test_only_those_with_a_key_are_let_in() -> None:
    """It says whose tenant they are, whatever they say themselves; probes of health need none."""
    access = Access({KEY: "team-a"})
    async with serving(access=access, linger_s=0.05) as server:
        without = await server.ask("POST", "/echo", b"abc")
        wrong = await server.ask("POST", "/echo", b"abc", Authorization="Bearer another-key-of-length")
        bearer = await server.ask("POST", "/echo", b"abc", Authorization=f"Bearer {KEY}", X_Tenant="team-b")
        header = await server.ask("POST", "/echo", b"abc", X_API_Key=KEY)
        health = await server.ask("GET", "/health")
        unknown = await server.ask("GET", "/nothing")
    assert [a.status for a in (without, wrong, bearer, header, health, unknown)] == [401, 401, 200, 200, 200, 401]
    assert without.headers["www-authenticate"] == "Bearer"
    assert b"there is no API key: send `Authorization: Bearer KEY`" in without.body
    assert b"the API key is not one of ours" in wrong.body
    assert [exchange.tenant for exchange in server.desk.asked] == ["team-a", "team-a", ""]


@pytest.mark.parametrize("tenant", ["two words", "x" * 65])
async def test_a_tenant_that_can_be_none_is_refused(tenant: str) -> None:
    """Where clients name their tenants themselves."""
    async with serving(linger_s=0.05) as server:
        assert (await server.ask("GET", "/hello", X_Tenant=tenant)).status == 400


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, and its key beside it."""
    directory = tmp_path_factory.mktemp("tls")
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=DNS:localhost -keyout key.pem -out certificate.pem"
    subprocess.run(["openssl", *options.split(), *names.split()], cwd=directory, check=True, capture_output=True)
    return directory / "certificate.pem"


async def test_connections_are_encrypted(certificate: Path) -> None:
    """Large answers, many requests, streams, and a clean end."""
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with serving(tls=load_tls(certificate, certificate.with_name("key.pem"))) as server:
        client = await server.connect(tls=trusting)
        small, large = await client.ask("GET", "/hello"), await client.ask("GET", "/large/3000000")
        parts = await client.ask("GET", "/stream/2")
        refused = await client.ask("POST", "/small", bytes(100))
    assert (small.body, len(large.body), parts.body, refused.status) == (b"hello", 3_000_000, b"part 0;part 1;", 413)


async def test_a_client_that_speaks_plainly_to_an_encrypted_port_disturbs_nobody(certificate: Path) -> None:
    """It is hung up on."""
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with serving(tls=load_tls(certificate, certificate.with_name("key.pem"))) as server:
        plain = await server.connect()
        plain.write(written("GET", "/hello"))
        await plain.rest()
        assert (await (await server.connect(tls=trusting)).ask("GET", "/hello")).status == 200


def test_a_certificate_that_can_not_be_used_is_told_before_anything_is_served(certificate: Path) -> None:
    """With the file."""
    key, empty, absent = (certificate.with_name(name) for name in ("key.pem", "empty.pem", "absent.pem"))
    empty.write_text("")
    with pytest.raises(ConfigError, match=r"the certificate can't be read from .*absent.pem \(No such file"):
        load_tls(absent, None)
    with pytest.raises(ConfigError, match=r"can't be used, from .*empty.pem and .*key.pem"):
        load_tls(empty, key)
    with pytest.raises(ConfigError, match="give a certificate and its own key, both in PEM"):
        load_tls(certificate, None)
