"""Asks a server what it serves, so that `carpool bench URL` needs no more than the address."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import aiohttp
import numpy as np

from carpool.errors import ConfigError, ConnectionFailed
from carpool.loadgen.bodies import NUM_BODIES, oip_bodies, openai_bodies, read_inputs
from carpool.loadgen.http import Requests, check_url, explain, open_session
from carpool.models.text import sentences

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

ANSWER_S = 10.0
MOST_BYTES = 1 << 20  # of an answer: a list of models or of inputs is far smaller


def is_bare(url: str) -> bool:
    """Say whether a URL names a server only, and not a path on it.

    Example:
        >>> is_bare("http://127.0.0.1:8000/"), is_bare("http://127.0.0.1:8000/v1/embeddings")
        (True, False)
    """
    return urlsplit(url).path in ("", "/")


async def discover(
    url: str,
    *,
    model: str | None,
    api: str | None,
    seed: int,
    headers: Mapping[str, str],
    trusted: ssl.SSLContext | None = None,
) -> Requests:
    """Ask the server at a bare URL for its models, and build the bodies that one of them takes.

    Args:
        url: `http://host:port`.
        model: Which model; the only one where None.
        api: "oip" or "openai"; the one that the server speaks where None, Open Inference Protocol first.
        seed: Chooses sentences and numbers.
        headers: Sent with every request.
        trusted: Whom to trust over TLS; None for those that the machine does.

    Raises:
        ConnectionFailed: The server is not there, or speaks neither.
        ConfigError: The model is not there, or one must be chosen.
    """
    check_url(url)
    base = url.rstrip("/")
    async with open_session(headers, trusted) as session:
        name = _choose(await _models(session, base), model, base)
        metadata = await _get(session, f"{base}/v2/models/{quote(name)}") if api != "openai" else None
    texts = sentences(NUM_BODIES, seed=seed)
    if metadata is not None:
        bodies = oip_bodies(read_inputs(metadata), texts, np.random.default_rng(seed))
        return Requests(f"{base}/v2/models/{quote(name)}/infer", bodies, headers, trusted)
    if api == "oip":
        raise ConnectionFailed(
            f"{base} has no metadata of {name!r} under /v2/models: it does not speak the Open Inference Protocol; "
            "use --api openai, or a full URL with --data"
        )
    return Requests(f"{base}/v1/embeddings", openai_bodies(name, texts), headers, trusted)


async def _models(session: aiohttp.ClientSession, base: str) -> tuple[str, ...]:
    """List the server's models, as OpenAI's API does it."""
    answer = await _get(session, f"{base}/v1/models")
    listed = answer.get("data") if answer else None
    if not isinstance(listed, list):
        return ()
    return tuple(str(one["id"]) for one in listed if isinstance(one, dict) and "id" in one)


def _choose(names: tuple[str, ...], wanted: str | None, base: str) -> str:
    """Settle on a model."""
    if wanted is not None and (wanted in names or not names):
        return wanted
    listed = ", ".join(names)
    if wanted is not None:
        raise ConfigError(f"{base} serves no model {wanted!r}: it serves {listed}; give one of these with --model")
    if not names:
        raise ConfigError(f"{base}/v1/models lists no models: name one with --model, or give a full URL with --data")
    if len(names) > 1:
        raise ConfigError(f"{base} serves {len(names)} models, {listed}: choose one with --model")
    return names[0]


async def _get(session: aiohttp.ClientSession, url: str) -> Mapping[str, Any] | None:
    """Get a JSON object; None where the server has nothing of the kind there.

    Raises:
        ConnectionFailed: The server can't be reached, or takes too long.
    """
    try:
        async with asyncio.timeout(ANSWER_S), session.get(url) as response:
            body = b""
            while len(body) <= MOST_BYTES and (part := await response.content.readany()):
                body += part
    except TimeoutError:
        raise ConnectionFailed(f"{url} had no answer within {ANSWER_S:g} s: see that the server is ready") from None
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionFailed(
            f"{url} can't be reached: {explain(error)}; see that a server runs there (carpool serve starts one), "
            "and that host, port and http or https are right"
        ) from None
    if response.status >= 500:  # noqa: PLR2004 (the server's own fault)
        raise ConnectionFailed(f"{url} was answered with http {response.status}: see the server's log, and try again")
    return _object(body) if response.status == 200 and len(body) <= MOST_BYTES else None  # noqa: PLR2004 (OK)


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
