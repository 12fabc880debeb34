"""The gRPC server: beside the HTTP server, in the same process and on the same event loop."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from carpool.serve.control import Control
from carpool.serve.grpc.calls import Inference
from carpool.serve.grpc.service import handlers
from carpool.serve.grpc.watching import Watching
from carpool.serve.server import CannotListen

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from carpool.serve.access import Access
    from carpool.serve.offer import Offer
    from carpool.serve.watch import RequestWatch

_OVERHEAD_BYTES = 64 * 1024  # names, shapes and parameters, around as many bytes of tensors as a body may have


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a server proves who it is by, as PEM.

    Args:
        chain: its certificate, and those that vouch for it.
        key: its private key.
    """

    chain: bytes
    key: bytes


class GrpcServer:
    """Answers calls of `inference.GRPCInferenceService`.

    Args:
        taken: bound to the address that it is to have, which it holds until `start`, and closed then.
        offer: the models.
        access: lets callers in.
        max_message_bytes: the largest message that is read.
        max_calls: calls and streams under way at once; one more is refused.
        certificate: None to speak in the clear.
        watch: is told of every call.
        control: says who may change models over the network; None lets nobody.
    """

    def __init__(
        self,
        taken: socket.socket,
        offer: Offer,
        access: Access,
        *,
        max_message_bytes: int,
        max_calls: int,
        certificate: Certificate | None = None,
        watch: RequestWatch | None = None,
        control: Control | None = None,
    ) -> None:
        host, port = taken.getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._taken = taken
        self._offer = offer
        self._access = access
        self._options = _options(max_message_bytes)
        self._max_calls = max_calls
        self._certificate = certificate
        self._watch = watch
        self._control = control or Control()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Answer calls from now on, on the loop that this runs on.

        Raises:
            CannotListen: somebody else took the address just now.
        """
        self._inference = Inference(self._offer, self._access)
        server = grpc.aio.server(
            handlers=[handlers(self._offer, self._inference, self._access, self._control)],
            interceptors=() if self._watch is None else (Watching(self._watch),),
            options=self._options,
            maximum_concurrent_rpcs=self._max_calls,
        )
        self._taken.close()
        try:
            if self._certificate is None:
                server.add_insecure_port(self.address)
            else:
                server.add_secure_port(self.address, _credentials(self._certificate))
        except RuntimeError as error:
            raise CannotListen(f"gRPC can't listen on {self.address} ({error}): stop what uses it") from None
        await server.start()
        self._server = server

    async def drain(self, timeout_s: float) -> bool:
        """Take no new calls, and give those under way so long; what is left then is cancelled.

        Returns:
            Whether all were answered.
        """
        if self._server is None:
            return True
        self._inference.closing.set()
        await self._server.stop(timeout_s)
        return not self._inference.num_given_up

    def hurry(self) -> None:
        """Wait no longer for what is under way."""
        if self._server is not None:
            self._hurrying = asyncio.ensure_future(self._server.stop(0.0))


def _options(max_message_bytes: int) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", max_message_bytes + _OVERHEAD_BYTES),
        ("grpc.max_send_message_length", -1),  # what a model gives is the operator's own choice
        ("grpc.so_reuseport", 0),  # a second server on the same port is a mistake
    )


def _credentials(certificate: Certificate) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
