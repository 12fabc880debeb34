"""The OpenAPI page: made of the very routes that the server has and of the types that its answers are made of."""

from __future__ import annotations

import re
from html import escape
from inspect import cleandoc
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

import carpool
from carpool.serve.operation import BINARY, JSON, Operation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What any request may be answered with, whatever it asks for: said by the server before an operation sees the request.
_OF_ANY = (400, 401, 408, 413, 415, 417, 431, 500, 501, 503)
_MEANINGS: Mapping[int, str] = MappingProxyType(
    {
        400: "The request is malformed, or nothing that can be answered as it is: the message says what is wrong.",
        401: "The server asks for a key, and the request has none that it knows.",
        403: "Changes are not allowed: control is off, the key is not marked for it, or a web page of elsewhere asks.",
        404: "There is no such model, or no such version of it.",
        408: "The request was not sent to its end in time.",
        413: "The body is larger than the server reads.",
        415: "The body has a Content-Encoding other than gzip or deflate.",
        417: "The request expects something other than 100-continue.",
        429: "More is sent than can be taken; come back after Retry-After.",
        431: "The headers are larger than the server reads.",
        500: "The model failed, or the server did: the message or the server's log says how.",
        501: "The body has a Transfer-Encoding other than chunked.",
        503: "Not ready: a model loads or has failed, or the server stops or has no connection left.",
        504: "The deadline has passed, or can't be met.",
    }
)
_COME_BACK = (429, 503)
_AS_OPENAI = ("/v1/", "/tokenize", "/detokenize", "/health")  # what errors are written as there
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}


class OipError(msgspec.Struct):
    """Why a request was not answered."""

    error: str


class OpenAiProblem(msgspec.Struct):
    """What went wrong, of which kind it is, and which field of the request and which word stand for it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAiError(msgspec.Struct):
    """Why a request was not answered, as OpenAI's clients read it."""

    error: OpenAiProblem


def write_openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """Write the page.

    Args:
        operations: all that the server has.

    Returns:
        A document of OpenAPI 3.1.
    """
    types = [kind for one in operations for kind in (one.request, one.answer) if not _is_media_type(kind)]
    types += [OipError, OpenAiError]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    by_type = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = paths.setdefault(operation.route.pattern, {})
        path[operation.route.method.lower()] = _operation(operation, by_type)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Carpool",
            "version": carpool.__version__,
            "description": "Models behind batchers: each request's rows run in batches with those of others.",
        },
        "paths": paths,
        "components": {
            "schemas": {name: _described(one) for name, one in components.items()},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Put what a docstring says of each field beside the field."""
    summary, _, fields = cleandoc(schema.get("description", "")).partition("\n\nArgs:\n")
    told = dict(re.findall(r"^    (\w+): (.*(?:\n     +.*)*)", fields, re.MULTILINE))
    properties = {
        name: {**one, "description": " ".join(told[name].split())} if name in told else one
        for name, one in schema.get("properties", {}).items()
    }
    return {**schema, "description": " ".join(summary.split()), "properties": properties}


def _is_media_type(kind: Any) -> bool:
    return kind is None or isinstance(kind, str)


def _operation(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    route = operation.route
    document: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.group],
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.pattern}").strip("_"),
        "parameters": [*_of_path(route.pattern), *_of_headers(operation)],
        "responses": {"200": _answer(operation, schemas), **_errors(operation, schemas)},
    }
    if operation.request is not None:
        content = _content(operation.request, schemas) | ({BINARY: {}} if operation.binary else {})
        document["requestBody"] = {"required": not operation.optional, "content": content}
    return document


def _of_path(pattern: str) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", pattern)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]


def _of_headers(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": header.name, "in": "header", "required": False, "description": header.summary, "schema": header.schema}
        for header in operation.headers
    ]


def _content(kind: Any, schemas: Mapping[str, Any]) -> dict[str, Any]:
    return {kind: {}} if isinstance(kind, str) else {JSON: {"schema": schemas[repr(kind)]}}


def _answer(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    content = _content(operation.answer, schemas)
    document: dict[str, Any] = {"description": "The answer.", "content": content}
    if operation.binary:
        content |= {BINARY: {}}
        summary = "How much of the answer is JSON, where bytes of tensors follow it."
        document["headers"] = {
            "Inference-Header-Content-Length": {"description": summary, "schema": {"type": "integer", "minimum": 1}}
        }
    return document


def _errors(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    error = schemas[repr(OpenAiError if operation.route.pattern.startswith(_AS_OPENAI) else OipError)]
    documents = {}
    for status in sorted({*_OF_ANY, *operation.statuses}):
        is_health = operation.route.audience == "health" and not _is_media_type(operation.answer)
        says_not_ready = is_health and status == 503  # noqa: PLR2004 - as in the table above
        schema = {"anyOf": [schemas[repr(operation.answer)], error]} if says_not_ready else error
        document = {"description": _MEANINGS[status], "content": {JSON: {"schema": schema}}}
        documents[str(status)] = document | ({"headers": _RETRY_AFTER} if status in _COME_BACK else {})
    return documents


def write_page(operations: Sequence[Operation]) -> bytes:
    """Write a page for people: what there is, in a table.

    Args:
        operations: all that the server has.
    """
    groups = list(dict.fromkeys(operation.group for operation in operations))
    tables = "".join(_table(group, [one for one in operations if one.group == group]) for group in groups)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Carpool</title>'
        '<meta name="viewport" content="width=device-width">'
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
        "td{padding:.2rem 1.5rem .2rem 0;vertical-align:top}code{font-size:.9rem}</style>"
        f'<h1>Carpool {escape(carpool.__version__)}</h1><p>In full: <a href="openapi.json">openapi.json</a></p>'
        f"{tables}</html>"
    ).encode()


def _table(group: str, operations: Sequence[Operation]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.route.method)}<td><code>{escape(one.route.pattern)}</code><td>{escape(one.summary)}"
        for one in operations
    )
    return f"<h2>{escape(group)}</h2><table>{rows}</table>"
