"""The OpenAPI page has every route, and nothing that there is not."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from carpool.serve.app import create_router, operations
from carpool.serve.offer import Offer
from carpool.serve.openapi import write_openapi
from tests.serve.fakes import embed, offer, serving

METHODS = {"get", "post", "put", "delete", "patch"}


@pytest.fixture
def models() -> Offer:
    """An offer of one model."""
    return Offer.of(offer(embed))


@pytest.fixture
def page(models: Offer) -> dict[str, Any]:
    """The page."""
    return write_openapi(operations(models))


def test_the_page_has_the_routes_of_the_server_and_no_others(models: Offer, page: dict[str, Any]) -> None:
    """Whatever is added is on it at once."""
    routes = {(route.pattern, route.method.lower()) for route in create_router(models).routes}
    told = {(path, method) for path, one in page["paths"].items() for method in one if method in METHODS}
    assert told == routes


def test_every_schema_is_one(page: dict[str, Any]) -> None:
    """And every reference leads to one."""
    schemas = page["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = set(re.findall(r"#/components/schemas/(\w+)", repr(page)))
    assert references <= set(schemas)


def test_every_operation_has_a_name_of_its_own_and_its_path_parameters(page: dict[str, Any]) -> None:
    """Programs that write clients need both."""
    names = []
    for path, methods in page["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            named = [one["name"] for one in operation["parameters"] if one["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)
    assert len(set(names)) == len(names)


def test_what_a_docstring_says_of_a_field_stands_beside_it(page: dict[str, Any]) -> None:
    """And not in the summary."""
    schema = page["components"]["schemas"]["OutputParameters"]
    assert schema["description"] == "How one output is to be sent."
    assert schema["properties"]["binary_data"]["description"].startswith("whether as bytes; left out to do as")


def test_a_timeout_is_said_to_be_of_the_wait_alone(page: dict[str, Any]) -> None:
    """A batch that has begun is finished, however long it takes."""
    headers = {one["name"]: one for one in page["paths"]["/predict/{model}"]["post"]["parameters"]}
    assert headers["X-Timeout-Ms"]["description"].startswith("Milliseconds that the request may wait for its batch")


def test_running_a_model_may_fail_in_every_way(page: dict[str, Any]) -> None:
    """Overload says when to come back."""
    responses = page["paths"]["/predict/{model}"]["post"]["responses"]
    assert {"200", "400", "404", "413", "415", "429", "500", "503", "504"} <= set(responses)
    assert "Retry-After" in responses["429"]["headers"]


async def test_people_get_a_table_without_outside_hosts() -> None:
    """It works where nothing else can be reached."""
    async with serving(embed) as client:
        answer = await client.get("/docs")
        document = await client.get("/openapi.json")
    text = answer.body.decode()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "//" not in text
    assert all(f"<code>{path}</code>" in text for path in document.json["paths"])
