"""Asking a server what it serves."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from carpool.errors import ConfigError, ConnectionFailed
from carpool.loadgen.bodies import NUM_BODIES
from carpool.loadgen.discover import discover
from carpool.loadgen.http import JSON_HEADERS, Requests
from tests.loadgen.web import both_protocols, serving


async def ask(url: str, *, model: str | None = None, api: str | None = None) -> Requests:
    """Discover with the defaults of the command."""
    return await discover(url, model=model, api=api, seed=0, headers=JSON_HEADERS)


async def models_only(request: web.Request) -> web.StreamResponse:
    """A server of two models that speaks OpenAI's API only."""
    if request.path == "/v1/models":
        return web.json_response({"data": [{"id": "small"}, {"id": "large"}]})
    return web.Response(status=404, text="<html>nothing here</html>")


async def nothing(_request: web.Request) -> web.StreamResponse:
    """A server of something else."""
    return web.Response(text="<html>welcome</html>")


async def test_the_open_inference_protocol_comes_first() -> None:
    """A server with model metadata is sent infer bodies of sentences."""
    async with serving(both_protocols) as url:
        requests = await ask(f"{url}/")
    assert requests.url == f"{url}/v2/models/echo/infer"
    assert len(requests.bodies) == NUM_BODIES
    (tensor,) = json.loads(requests.bodies[0])["inputs"]
    assert tensor["datatype"] == "BYTES"
    assert len(tensor["data"][0].split()) >= 5


async def test_the_other_api_is_spoken_when_asked_for_or_alone() -> None:
    """`--api openai`, or a server without metadata, gives embeddings bodies."""
    async with serving(both_protocols) as url:
        assert (await ask(url, api="openai")).url == f"{url}/v1/embeddings"
    async with serving(models_only) as url:
        requests = await ask(url, model="small")
    assert requests.url == f"{url}/v1/embeddings"
    assert json.loads(requests.bodies[0])["model"] == "small"


async def test_models_are_chosen_by_name_where_there_are_several() -> None:
    """No choice, and a wrong choice, list what there is."""
    async with serving(models_only) as url:
        with pytest.raises(ConfigError, match="serves 2 models, small, large: choose one with --model"):
            await ask(url)
        with pytest.raises(ConfigError, match="serves no model 'medium': it serves small, large"):
            await ask(url, model="medium")


async def odd_list(_request: web.Request) -> web.StreamResponse:
    """A server whose list of models is none."""
    return web.json_response({"data": 5})


async def endless(_request: web.Request) -> web.StreamResponse:
    """A server that sends more than any list of models."""
    return web.Response(body=b"[" * (2 << 20))


async def failing(_request: web.Request) -> web.StreamResponse:
    """A server at fault."""
    return web.Response(status=500, text="no")


async def test_answers_that_are_no_list_of_models_are_told() -> None:
    """Another type, too many bytes, or a failure of the server."""
    for answer in (odd_list, endless):
        async with serving(answer) as url:
            with pytest.raises(ConfigError, match="lists no models"):
                await ask(url)
    async with serving(failing) as url:
        with pytest.raises(ConnectionFailed, match="answered with http 500: see the server's log"):
            await ask(url)


async def test_a_server_of_something_else_is_explained() -> None:
    """Neither a list of models nor metadata: the remedy is named."""
    async with serving(nothing) as url:
        with pytest.raises(ConfigError, match="lists no models: name one with --model, or give a full URL"):
            await ask(url)
    async with serving(models_only) as url:
        with pytest.raises(ConnectionFailed, match="does not speak the Open Inference Protocol; use --api openai"):
            await ask(url, model="small", api="oip")
