"""Answers requests for text: reads them, has them run, and writes what comes, whole or as a stream."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from carpool.errors import CarpoolError, InvalidItem
from carpool.serve import openai
from carpool.serve.asked import read_options
from carpool.serve.faults import FAILED, Fault, bad_request, to_fault
from carpool.serve.http.exchange import OK, Exchange, Reply
from carpool.serve.llm.asked import Asked, read_completion, read_conversation
from carpool.serve.llm.chat_writer import ChatWriter
from carpool.serve.llm.completion_writer import CompletionWriter
from carpool.serve.llm.requests import chats, completions
from carpool.serve.llm.run import Run
from carpool.serve.llm.sampling import form_field
from carpool.serve.llm.writing import DONE, Heading, Writer

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.serve.http.exchange import Stream
    from carpool.serve.llm.requests import Decoder
    from carpool.serve.llm.served import ServedLM

# Tokenising more takes milliseconds: on a thread, so that the loop serves the others meanwhile.
QUICKLY_READ_BYTES = 8 * 1024
_MANY_PARTS = 64  # writing more of them, with their log probabilities, takes milliseconds as well
EVENTS = b"text/event-stream; charset=utf-8"
# Proxies are not to keep events back, and nobody is to give them again.
_STREAM_HEADERS = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))
R = TypeVar("R")
_logger = logging.getLogger("carpool.serve")


class Generators(Protocol):
    """Finds language models on offer by name."""

    def generator(self, name: str) -> ServedLM:
        """Return the model of that name."""


class Answering:
    """Answers the requests of one path.

    Args:
        generators: finds models.
        decoder: decodes requests.
        read: reads one for a model.
        writer: writes its answer.
        prefix: what the names of answers begin with.
    """

    def __init__(
        self,
        generators: Generators,
        decoder: Decoder,
        *,
        read: Callable[..., Asked],
        writer: Callable[[Asked, Heading], Writer],
        prefix: str,
    ) -> None:
        self._generators = generators
        self._decoder = decoder
        self._read = read
        self._writer = writer
        self._prefix = prefix

    async def __call__(self, exchange: Exchange) -> Reply | None:
        """Answer a request.

        Raises:
            Fault: it can't be answered; where its answer has not begun.
        """
        options = read_options(exchange)
        request = await self._decoded(exchange)
        served = named_generator(self._generators, request.model)
        served.check_ready()
        asked = await _aside(exchange, served, lambda: self._read(served, request, options), request)
        served = named_generator(self._generators, request.model)  # another version may be in force meanwhile
        served.check_ready()
        heading = Heading(
            id=f"{self._prefix}-{exchange.id}", created=int(time.time()), model=served.name, texts=served.texts
        )
        writer = self._writer(asked, heading)
        with Run(served, asked.generations) as run:
            if asked.streams:
                await _stream(exchange, run, writer)
                return None
            parts = await run.whole()
        if len(parts) > _MANY_PARTS:
            return Reply(await asyncio.to_thread(writer.whole, parts))
        return Reply(writer.whole(parts))

    async def _decoded(self, exchange: Exchange) -> Any:
        if len(exchange.body) <= QUICKLY_READ_BYTES:
            return self._decoder.decode(exchange.body)
        return await asyncio.to_thread(self._decoder.decode, exchange.body)


def completion_answering(generators: Generators) -> Answering:
    """Return what answers /v1/completions."""
    return Answering(generators, completions, read=read_completion, writer=CompletionWriter, prefix="cmpl")


def chat_answering(generators: Generators) -> Answering:
    """Return what answers /v1/chat/completions."""
    return Answering(generators, chats, read=read_conversation, writer=ChatWriter, prefix="chatcmpl")


def named_generator(generators: Generators, name: str) -> ServedLM:
    """Return a language model; a fault says that it is the field `model` which is wrong.

    Raises:
        Fault: there is none of that name.
    """
    with openai.blaming_the_name():
        return generators.generator(name)


async def _aside(exchange: Exchange, served: ServedLM, read: Callable[[], Asked], request: Any) -> Asked:
    """Read a request, on a thread if that takes long: a long prompt, or a form that is to be compiled."""
    field = form_field(request)
    if len(exchange.body) <= QUICKLY_READ_BYTES and not field:
        return read()

    def read_and_compile() -> Asked:
        asked = read()
        constraint = asked.generations[0].params.constraint
        try:
            if constraint is not None:
                served.engine.compile(constraint)
        except InvalidItem as error:
            raise bad_request(str(error), param=field) from error
        return asked

    return await aside(served, read_and_compile)


async def aside(served: ServedLM, read: Callable[[], R]) -> R:
    """Do something for a request on a thread, while its model is known to be wanted.

    Args:
        served: the model.
        read: what to do.
    """
    served.num_admitting += 1
    try:
        return await asyncio.to_thread(read)
    finally:
        served.num_admitting -= 1


async def _stream(exchange: Exchange, run: Run, writer: Writer) -> None:
    """Send an answer while it is made; a failure in its midst is its last event."""
    try:
        await _send(await exchange.stream(OK, _STREAM_HEADERS, EVENTS), exchange, run, writer)
    except ConnectionError:  # a write finds out before the channel does
        exchange.leave()


async def _send(stream: Stream, exchange: Exchange, run: Run, writer: Writer) -> None:
    try:
        while parts := await run.next():
            if written := writer.events(parts):
                await stream.write(written)
        await stream.write(writer.last())
    except ConnectionError:
        raise
    except CarpoolError as error:
        await _tell(stream, to_fault(error))
    except Exception:
        _logger.exception("unexpected failure, a fault in carpool, in a stream (request %s)", exchange.id)
        await _tell(stream, Fault(FAILED, f"the server failed unexpectedly: its log says how, at {exchange.id}"))
    await stream.end()


async def _tell(stream: Stream, fault: Fault) -> None:
    await stream.write(b"data: %b\n\n" % openai.write_error(fault).body + DONE)
