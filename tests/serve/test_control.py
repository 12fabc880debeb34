"""Who may change what is served over the network, and what of it."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from carpool.serve.access import Access, Holder
from carpool.serve.app import create_router
from carpool.serve.control import Control, read_config
from carpool.serve.faults import Fault
from carpool.serve.grpc import messages as m
from carpool.serve.http.asgi import as_asgi
from tests.serve.fakes import Client, Doubler, offer
from tests.serve.grpc_rig import grpc_serving
from tests.serve.repositories import offer_of, write_entry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.serve.fakes import Answer

TENANT_KEY, OPERATOR_KEY = "a-key-of-a-tenant-11", "a-key-of-operators-2"
KEYS = Access({TENANT_KEY: Holder("team-a"), OPERATOR_KEY: Holder("ops", controls=True)})
CHANGES = [
    ("POST", "/v2/repository/models/m/load", {}),
    ("POST", "/v2/repository/models/m/unload", {}),
    ("PATCH", "/v2/models/m/policy", {"policy": {"max_batch_size": 2}}),
    ("PATCH", "/v2/models/m/versions/1/policy", {"version": 1}),
]


@asynccontextmanager
async def running(directory: Path, control: Control, access: Access | None = None) -> AsyncIterator[Client]:
    """Serve a repository of one model, `m`."""
    write_entry(directory, "m")
    models = offer_of(directory)
    await asyncio.to_thread(models.start)
    client = Client(offer(Doubler()))
    client.app = as_asgi(create_router(models, control=control), access=access)
    try:
        yield client
    finally:
        await asyncio.to_thread(models.close, 10.0)


async def ask(client: Client, change: tuple[str, str, Any], headers: dict[str, str] | None = None) -> Answer:
    """Ask for a change."""
    method, path, document = change
    return await client.send(method, path, [json.dumps(document).encode()], headers)


async def test_nothing_can_be_changed_unless_the_operator_has_asked_for_it(tmp_path: Path) -> None:
    """It is refused with the remedy; reading goes on."""
    async with running(tmp_path, Control()) as client:
        for change in CHANGES:
            answer = await ask(client, change)
            assert (answer.status, "start the server with --control" in answer.json["error"]) == (403, True)
        for path in ("/v2/models/m/policy", "/v2/models/m/config", "/v2/models/m/stats", "/v2/models/m/ready"):
            assert (await client.get(path)).status == 200
        assert (await client.post("/v2/repository/index", b"")).status == 200


async def test_with_keys_only_those_that_are_marked_may_change_something(tmp_path: Path) -> None:
    """Others are told how keys are marked; without a key nobody is even let in."""
    async with running(tmp_path, Control(KEYS), KEYS) as client:
        for change in CHANGES:
            refused = await ask(client, change, {"x-api-key": TENANT_KEY})
            assert (refused.status, "`KEY TENANT control`" in refused.json["error"]) == (403, True)
            assert (await ask(client, change)).status == 401
        assert (await client.send("GET", "/v2/models/m/policy", headers={"x-api-key": TENANT_KEY})).status == 200
        for change in (CHANGES[2], CHANGES[3], CHANGES[0], CHANGES[1]):
            assert (await ask(client, change, {"authorization": f"Bearer {OPERATOR_KEY}"})).status == 200


@pytest.mark.parametrize(
    ("headers", "passes"),
    [
        ({"host": "127.0.0.1:8000"}, True),
        ({"host": "127.0.0.1:8000", "content-type": "application/x-www-form-urlencoded"}, True),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, True),
        ({"host": "localhost:8000", "origin": "http://LOCALHOST:8000"}, True),
        ({"host": "[::1]:8000", "origin": "http://[::1]:8000"}, True),
        ({"host": "127.0.0.1:8000", "origin": "http://evil.example"}, False),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:9000"}, False),
        ({"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000, http://evil.example"}, False),
        ({"host": "127.0.0.1:8000", "origin": "null"}, False),
        ({"host": "127.0.0.1:8000", "origin": ""}, False),
        ({"host": "127.0.0.1:8000", "origin": "http://[evil"}, False),
        ({"host": "127.0.0.1:8000", "sec-fetch-site": "cross-site"}, False),
        ({"host": "127.0.0.1:8000", "sec-fetch-site": "same-site"}, False),
        ({"host": "evil.example:8000", "origin": "http://evil.example:8000"}, False),  # a name that leads to us
        ({"host": "localhost.evil.example", "origin": "http://localhost.evil.example"}, False),
        ({"origin": "http://127.0.0.1:8000"}, False),
    ],
)
def test_no_web_page_of_elsewhere_changes_anything(headers: dict[str, str], passes: bool) -> None:
    """Browsers say whose page asks; other clients say nothing of the kind."""
    as_bytes = {name.encode(): value.encode() for name, value in headers.items()}
    if passes:
        Control(Access()).check(as_bytes)
        return
    with pytest.raises(Fault, match=r"a web page of .* asks for a change") as refused:
        Control(Access()).check(as_bytes)
    assert refused.value.status == 403


async def test_a_web_page_is_refused_whatever_it_asks(tmp_path: Path) -> None:
    """A page can send a POST without being able to read the answer."""
    async with running(tmp_path, Control(Access())) as client:
        for change in CHANGES:
            headers = {"host": "127.0.0.1:8000", "origin": "https://evil.example", "content-type": "text/plain"}
            assert (await ask(client, change, headers)).status == 403
        assert (await client.get("/v2/models/m/ready")).status == 200


def evil_file(directory: Path) -> tuple[Path, Path]:
    """Write a model that leaves a mark when it is imported; return it and the mark."""
    mark = directory / "mark"
    code = directory / "evil.py"
    code.write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\ndef f(batch):\n    return batch\n")
    return code, mark


def attempts(code: Path) -> list[tuple[dict[str, Any], str]]:
    """Return configurations that would run code or touch files, and what each is refused by."""
    target = f"{code}:f"
    return [
        ({"model": {"target": target}}, "model.target"),
        ({"policy": {"max_batch_size": 2}, "model": {"target": target}}, "model.target"),
        ({"model.target": target}, "model.target"),
        ({"model": target}, "'model'"),
        ({"model": {"worker": "process"}}, "model.worker"),
        ({"model": {"devices": ["cpu"]}}, "model.devices"),
        ({"step": {"evil": {"target": target}}}, "step.evil"),
        ({"pipeline": {"steps": ["evil"]}, "step": {"evil": {"target": target}}}, "pipeline.steps"),
        ({"profile": str(code)}, "'profile'"),
        ({"profile_sha256": "0" * 64}, "'profile_sha256'"),
        ({"cache": {"results": "1MiB"}}, "cache.results"),
        ({"telemetry": {"events": str(code.parent)}}, "telemetry.events"),
        ({"http": {"api_keys": str(code)}}, "http.api_keys"),
        ({"server": {"control": True}}, "server.control"),
        ({"workload": {"trace": str(code)}}, "workload.trace"),
        ({"ray": {}}, "'ray'"),
        ({"Model": {"target": target}}, "Model.target"),
        ({" model": {"target": target}}, " model.target"),
        ({"schema_version": 1}, "'schema_version'"),
        ({"policy": {"model": {"target": target}}}, "model"),
        ({"policy": {"../model.target": target}}, "model.target"),
        ({"objective": {"target": target}}, "target"),
        ({"tenants": {"a": target}}, "tenants"),
    ]


async def test_a_load_tells_policies_and_nothing_else(tmp_path: Path) -> None:
    """Whoever may load can still not have other code run, nor name files; what serves serves on."""
    code, mark = evil_file(tmp_path)
    async with running(tmp_path / "models", Control(Access())) as client:
        path = "/v2/repository/models/m/load"
        for config, said in attempts(code):
            answer = await client.post(path, {"parameters": {"config": json.dumps(config)}})
            assert (answer.status, said in answer.json["error"]) == (400, True), (config, answer.json)
        for name in (str(code), f"{code}:f", "../evil", "m/../../evil"):
            assert (await client.post(f"/v2/repository/models/{name.replace('/', '%2F')}/load", {})).status == 404
        sent = {"parameters": {"file:1/model.py": "AAAA", "config": "{}"}}
        assert (await client.post(path, sent)).status == 400
        policy = {"policy": {"max_batch_size": 2}, "objective": {"p99": "50ms"}, "tenants": {"a": 2}}
        assert (await client.post(path, {"parameters": {"config": json.dumps(policy)}})).status == 200
        assert (await client.get("/v2/models/m/policy")).json["in_force"]["policy"]["max_batch_size"] == 2
    assert not mark.exists()


def test_what_only_files_may_tell_is_refused_in_words() -> None:
    """With the key, and what there may be instead."""
    said = r"'model.target', which only the operator's files may tell: over the network it may have \[policy\]"
    with pytest.raises(Fault, match=said):
        read_config('{"model": {"target": "/tmp/evil.py:f"}}')
    assert read_config("{}") is None


def load_request(**parameters: str) -> m.RepositoryModelLoadRequest:
    """Write a load of `m`; underscores of a name stand for a colon."""
    request = m.RepositoryModelLoadRequest(model_name="m")
    for name, value in parameters.items():
        request.parameters[name.replace("_", ":")].string_param = value
    return request


async def refusal(calling: Any) -> tuple[grpc.StatusCode, str]:
    """Wait for a call to be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await calling
    return refused.value.code(), refused.value.details() or ""


async def test_over_grpc_nothing_can_be_changed_either() -> None:
    """Unless it was asked for."""
    async with grpc_serving(Doubler()) as caller:
        load = caller.call("RepositoryModelLoad", load_request(), m.RepositoryModelLoadResponse)
        code, said = await refusal(load)
        assert (code, "--control" in said) == (grpc.StatusCode.PERMISSION_DENIED, True)
        unload = m.RepositoryModelUnloadRequest(model_name="m")
        code, _ = await refusal(caller.call("RepositoryModelUnload", unload, m.RepositoryModelUnloadResponse))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        index = await caller.call("RepositoryIndex", m.RepositoryIndexRequest(), m.RepositoryIndexResponse)
        assert index.models[0].state == "READY"


async def test_over_grpc_a_load_tells_policies_and_nothing_else(tmp_path: Path) -> None:
    """By the same rules, of keys, of pages and of settings."""
    code, mark = evil_file(tmp_path)
    async with grpc_serving(Doubler(), access=KEYS, control=Control(KEYS)) as caller:

        async def refused(request: m.RepositoryModelLoadRequest, *metadata: tuple[str, str]) -> grpc.StatusCode:
            load = caller.call("RepositoryModelLoad", request, m.RepositoryModelLoadResponse, metadata=metadata)
            return (await refusal(load))[0]

        operator = ("x-api-key", OPERATOR_KEY)
        assert await refused(load_request(), ("x-api-key", TENANT_KEY)) is grpc.StatusCode.PERMISSION_DENIED
        assert await refused(load_request(), operator, ("origin", "null")) is grpc.StatusCode.PERMISSION_DENIED
        for config, _ in attempts(code)[:19]:
            request = load_request(config=json.dumps(config))
            assert await refused(request, operator) is grpc.StatusCode.INVALID_ARGUMENT, config
        assert await refused(load_request(file_model="x"), operator) is grpc.StatusCode.INVALID_ARGUMENT
        unload = m.RepositoryModelUnloadRequest(model_name="m")
        await caller.call("RepositoryModelUnload", unload, m.RepositoryModelUnloadResponse, metadata=[operator])
    assert not mark.exists()


async def test_the_history_and_the_log_name_who_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The tenant of the key, for a load with settings, one anew and an unload."""
    caplog.set_level(logging.INFO, "carpool.serve")
    async with running(tmp_path, Control(KEYS), KEYS) as client:
        operator = {"x-api-key": OPERATOR_KEY}
        load = {"parameters": {"config": '{"policy": {"max_batch_size": 2}}'}}
        assert (await ask(client, ("POST", "/v2/repository/models/m/load", load), operator)).status == 200
        shown = (await client.send("GET", "/v2/models/m/policy", headers=operator)).json
        assert (shown["in_force"]["who"], shown["in_force"]["result"]) == ("ops", "told by a load")
        assert (await ask(client, CHANGES[1], operator)).status == 200
        assert (await ask(client, ("POST", "/v2/repository/models/m/load", load), operator)).status == 200
        shown = (await client.send("GET", "/v2/models/m/policy", headers=operator)).json
        assert shown["in_force"]["who"] == "ops"
    assert "model m: unloaded, as ops asked" in caplog.messages
    assert any("model m, version 1: ready after" in said and "as ops asked" in said for said in caplog.messages)


async def test_what_goes_with_its_files_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A model, and a version of one."""
    caplog.set_level(logging.INFO, "carpool.serve")
    gone = write_entry(tmp_path, "gone") / "carpool.toml"
    write_entry(tmp_path, "m", 'versions = "all"\n')
    for version in (tmp_path / "m/1", tmp_path / "m/2"):
        version.mkdir()
    models = offer_of(tmp_path)
    await asyncio.to_thread(models.start)
    gone.unlink()
    (tmp_path / "m/1").rmdir()
    await models.reload()
    await asyncio.to_thread(models.close, 10.0)
    assert "model gone: removed, as its files are gone" in caplog.messages
    assert "model m, version 1: removed, as it is not told any more" in caplog.messages
