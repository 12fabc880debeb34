"""The service `inference.GRPCInferenceService`: which call leads to what, in front of the models on offer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc

from carpool.serve.grpc import absent
from carpool.serve.grpc.catalogue import Catalogue
from carpool.serve.grpc.messages import DESCRIPTOR, ModelInferRequest
from carpool.serve.grpc.rpc import Unary

if TYPE_CHECKING:
    from carpool.serve.access import Access
    from carpool.serve.control import Control
    from carpool.serve.grpc.calls import Inference
    from carpool.serve.offer import Offer

NAME = "GRPCInferenceService"


def handlers(offer: Offer, inference: Inference, access: Access, control: Control) -> grpc.GenericRpcHandler:
    """Return what answers the calls of the service.

    Args:
        offer: the models.
        inference: runs them.
        access: lets callers in.
        control: says who may change models.
    """
    methods: dict[str, Any] = {
        name: grpc.unary_unary_rpc_method_handler(Unary(request, answer, access=access, audience=audience).handle)
        for name, (request, answer, audience) in {**Catalogue(offer, control).methods(), **absent.methods()}.items()
    }
    methods["ModelInfer"] = grpc.unary_unary_rpc_method_handler(
        Unary(ModelInferRequest, inference.infer, access=access).handle
    )
    methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(inference.stream)
    assert methods.keys() == set(DESCRIPTOR.services_by_name[NAME].methods_by_name), "every call has an answer"
    return grpc.method_handlers_generic_handler(f"{DESCRIPTOR.package}.{NAME}", methods)
