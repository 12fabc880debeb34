"""The paths of the Open Inference Protocol that manage: the repository of models, and what is not to be had here.

Shared memory, traces and log settings are answered so that clients which look at them go on: there is nothing to be
seen and nothing to be undone; to set something up is refused with what to do instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from carpool.serve import oip_documents
from carpool.serve.control import read_config
from carpool.serve.faults import BAD_REQUEST, FORBIDDEN, NOT_FOUND, UNAVAILABLE, bad_request
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.oip import decode_json
from carpool.serve.oip_routes import GROUP, write_error
from carpool.serve.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.serve.control import Control
    from carpool.serve.offer import Offer

_encode = msgspec.json.Encoder().encode


class IndexRequest(msgspec.Struct):
    """Which models to tell of: all, or those that answer."""

    ready: bool = False


class LoadParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How to load a model.

    Args:
        config: [policy], [objective] and [tenants] of a carpool.toml as JSON, of which each key wins over the
            model's own until its next load.
    """

    config: str = "{}"


class LoadRequest(msgspec.Struct):
    """Load a model, or load it anew."""

    parameters: LoadParameters = msgspec.field(default_factory=LoadParameters)


class UnloadParameters(msgspec.Struct):
    """How to unload a model.

    Args:
        unload_dependents: whether to take out the models of a pipeline too; they are left in.
    """

    unload_dependents: bool = False


class UnloadRequest(msgspec.Struct):
    """Take a model out."""

    parameters: UnloadParameters = msgspec.field(default_factory=UnloadParameters)


_decode_index = msgspec.json.Decoder(IndexRequest).decode
_decode_load = msgspec.json.Decoder(LoadRequest).decode
_decode_unload = msgspec.json.Decoder(UnloadRequest).decode


def admin_operations(offer: Offer, control: Control) -> list[Operation]:
    """Return what manages the server.

    Args:
        offer: the models.
        control: says who may change them.
    """
    return [*_repository(offer, control), *_shared_memory("system"), *_shared_memory("cuda"), *_settings()]


# ------------------------------------------------------------------------------------------------------ repository


def _repository(offer: Offer, control: Control) -> list[Operation]:
    async def load(exchange: Exchange) -> Reply:
        control.check(dict(exchange.headers()))
        request: LoadRequest = decode_json(_decode_load, exchange.body or b"{}")
        await offer.load(exchange.params["model"], read_config(request.parameters.config), who=exchange.who)
        return Reply(b"{}")

    async def unload(exchange: Exchange) -> Reply:
        control.check(dict(exchange.headers()))
        decode_json(_decode_unload, exchange.body or b"{}")
        await offer.unload(exchange.params["model"], who=exchange.who)
        return Reply(b"{}")

    def index(exchange: Exchange) -> Reply:
        request: IndexRequest = decode_json(_decode_index, exchange.body or b"{}")
        return Reply(_encode(oip_documents.repository_index(offer.index(), only_ready=request.ready)))

    changes = (BAD_REQUEST, FORBIDDEN, NOT_FOUND, UNAVAILABLE)
    return [
        _post("/v2/repository/index", index, "Which models there are, and how they are.", (BAD_REQUEST,),
              request=IndexRequest, kind=list[oip_documents.RepositoryModel]),
        _post("/v2/repository/models/{model}/load", load,
              "Load a model, or load it anew; what serves now serves on until the new one is ready.", changes,
              request=LoadRequest),
        _post("/v2/repository/models/{model}/unload", unload,
              "Take a model out, once it has finished what it accepted.", changes, request=UnloadRequest),
    ]  # fmt: skip


def _post(
    path: str,
    endpoint: Callable[[Exchange], Any],
    summary: str,
    statuses: tuple[int, ...],
    *,
    request: Any = None,
    kind: Any = dict[str, Any],
) -> Operation:
    return Operation(
        route=Route("POST", path, endpoint, write_error),
        summary=summary,
        group=GROUP,
        answer=kind,
        request=request,
        statuses=statuses,
        optional=True,
    )


# ---------------------------------------------------------------------------------------------- what is not had here


def _shared_memory(kind: str) -> list[Operation]:
    def register(exchange: Exchange) -> Reply:
        name = exchange.params["region"][:60]
        raise bad_request(
            f"the {kind} shared memory region {name!r} can't be registered: this server opens no shared memory; send "
            "tensors in the body, as bytes by binary_data_size"
        )

    base = f"/v2/{kind}sharedmemory"
    region = f"{base}/region/{{region}}"
    nothing = f"Nothing: no {'CUDA' if kind == 'cuda' else kind} shared memory is ever registered."
    return [
        _get(f"{base}/status", _no_list, nothing, list[Any]),
        _get(f"{region}/status", _no_list, nothing, list[Any]),
        _post(f"{region}/register", register, "Refused: no shared memory is opened here.", (BAD_REQUEST,)),
        _post(f"{region}/unregister", _nothing, nothing, ()),
        _post(f"{base}/unregister", _nothing, nothing, ()),
    ]


def _settings() -> list[Operation]:
    traces, logs = "are given when the server is started", "are given when the server is started"
    return [
        _get("/v2/trace/setting", _nothing, f"Nothing: settings of traces {traces}.", dict[str, Any]),
        _post("/v2/trace/setting", _no_setting, f"Refused: settings of traces {traces}.", (BAD_REQUEST,)),
        _get("/v2/models/{model}/trace/setting", _nothing, f"Nothing: settings of traces {traces}.", dict[str, Any]),
        _post("/v2/models/{model}/trace/setting", _no_setting, f"Refused: settings of traces {traces}.",
              (BAD_REQUEST,)),
        _get("/v2/logging", _nothing, f"Nothing: settings of logs {logs}.", dict[str, Any]),
        _post("/v2/logging", _no_setting, f"Refused: settings of logs {logs}.", (BAD_REQUEST,)),
    ]  # fmt: skip


def _get(path: str, endpoint: Callable[[Exchange], Any], summary: str, kind: Any) -> Operation:
    return Operation(route=Route("GET", path, endpoint, write_error), summary=summary, group=GROUP, answer=kind)


def _no_list(_exchange: Exchange) -> Reply:
    return Reply(b"[]")


def _nothing(_exchange: Exchange) -> Reply:
    return Reply(b"{}")


def _no_setting(exchange: Exchange) -> Reply:
    what = "logs" if exchange.path.startswith("/v2/logging") else "traces"
    raise bad_request(f"settings of {what} can't be changed over the network: start the server with others")
