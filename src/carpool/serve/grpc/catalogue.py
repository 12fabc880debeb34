"""What the server says of itself and of its models: health, metadata, configuration, statistics, the repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import msgspec
from google.protobuf.json_format import ParseDict

from carpool.serve import oip_documents
from carpool.serve.control import read_config
from carpool.serve.faults import Fault, bad_request
from carpool.serve.grpc import messages as m

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from google.protobuf.message import Message

    from carpool.serve.control import Control
    from carpool.serve.grpc.rpc import Caller
    from carpool.serve.http.routing import Audience
    from carpool.serve.offer import Offer

    Method: TypeAlias = tuple[type[Any], Callable[[Any, Caller], Awaitable[Message]], Audience]

M = TypeVar("M", bound="Message")


class Catalogue:
    """Answers what is asked about the models rather than of them.

    What is said is what REST says: its documents have the fields of the protocol's messages.

    Args:
        offer: the models.
        control: says who may change them.
    """

    def __init__(self, offer: Offer, control: Control) -> None:
        self._offer = offer
        self._control = control

    def methods(self) -> Mapping[str, Method]:
        """Return for each call what it takes, what answers it, and who calls it."""
        return {
            "ServerLive": (m.ServerLiveRequest, self.live, "health"),
            "ServerReady": (m.ServerReadyRequest, self.ready, "health"),
            "ModelReady": (m.ModelReadyRequest, self.model_ready, "health"),
            "ServerMetadata": (m.ServerMetadataRequest, self.server, "clients"),
            "ModelMetadata": (m.ModelMetadataRequest, self.metadata, "clients"),
            "ModelConfig": (m.ModelConfigRequest, self.config, "clients"),
            "ModelStatistics": (m.ModelStatisticsRequest, self.statistics, "clients"),
            "RepositoryIndex": (m.RepositoryIndexRequest, self.index, "clients"),
            "RepositoryModelLoad": (m.RepositoryModelLoadRequest, self.load, "clients"),
            "RepositoryModelUnload": (m.RepositoryModelUnloadRequest, self.unload, "clients"),
        }

    async def live(self, _request: m.ServerLiveRequest, _caller: Caller) -> m.ServerLiveResponse:
        """Say that the server answers."""
        return m.ServerLiveResponse(live=True)

    async def ready(self, _request: m.ServerReadyRequest, _caller: Caller) -> m.ServerReadyResponse:
        """Say whether every model that should be on offer answers."""
        return m.ServerReadyResponse(ready=self._offer.ready)

    async def model_ready(self, request: m.ModelReadyRequest, _caller: Caller) -> m.ModelReadyResponse:
        """Say whether a model answers; one that there is not does not."""
        try:
            ready = self._offer.find(request.name, request.version).ready
        except Fault:
            ready = False
        return m.ModelReadyResponse(ready=ready)

    async def server(self, _request: m.ServerMetadataRequest, _caller: Caller) -> m.ServerMetadataResponse:
        """Say what the server is."""
        return _to_message(oip_documents.server_metadata(), m.ServerMetadataResponse)

    async def metadata(self, request: m.ModelMetadataRequest, _caller: Caller) -> m.ModelMetadataResponse:
        """Say what a model takes and gives."""
        served = self._offer.named(request.name, request.version)
        served.check_ready()
        told = oip_documents.model_metadata(served, self._offer.versions(served.name))
        return _to_message(told, m.ModelMetadataResponse)

    async def config(self, request: m.ModelConfigRequest, _caller: Caller) -> m.ModelConfigResponse:
        """Say how a model is run."""
        served = self._offer.named(request.name, request.version)
        served.check_ready()
        return m.ModelConfigResponse(config=_to_message(oip_documents.model_config(served), m.ModelConfig))

    async def statistics(self, request: m.ModelStatisticsRequest, _caller: Caller) -> m.ModelStatisticsResponse:
        """Say what a model has done, in one version or all; or what all models have."""
        if request.name:
            self._offer.named(request.name, request.version)
        told = [
            served
            for served in self._offer.batched()
            if request.name in ("", served.name) and request.version in ("", served.version)
        ]
        return _to_message(oip_documents.statistics(told), m.ModelStatisticsResponse)

    async def index(self, request: m.RepositoryIndexRequest, _caller: Caller) -> m.RepositoryIndexResponse:
        """Say which models there are, and how they are."""
        models = oip_documents.repository_index(self._offer.index(), only_ready=request.ready)
        return _to_message({"models": models}, m.RepositoryIndexResponse)

    async def load(self, request: m.RepositoryModelLoadRequest, caller: Caller) -> m.RepositoryModelLoadResponse:
        """Load a model, or load it anew."""
        self._control.check(caller.metadata)
        await self._offer.load(request.model_name, _config(request), who=caller.who)
        return m.RepositoryModelLoadResponse()

    async def unload(self, request: m.RepositoryModelUnloadRequest, caller: Caller) -> m.RepositoryModelUnloadResponse:
        """Take a model out."""
        self._control.check(caller.metadata)
        await self._offer.unload(request.model_name, who=caller.who)
        return m.RepositoryModelUnloadResponse()


def _to_message(document: Any, kind: type[M]) -> M:
    """Write a document as the message of the same fields."""
    return ParseDict(msgspec.to_builtins(document), kind())


def _config(request: m.RepositoryModelLoadRequest) -> dict[str, Any] | None:
    """Return the keys of a carpool.toml that a model is to be loaded with, as JSON says them; None for its own."""
    unknown = sorted(set(request.parameters) - {"config"})
    if unknown:
        raise bad_request(
            f"the parameter {unknown[0][:60]!r} is not one of a load here: put files where the server reads "
            "models, and give config alone"
        )
    if "config" not in request.parameters:
        return None
    return read_config(request.parameters["config"].string_param)
