"""The paths of plain JSON: the shortest way to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from carpool.serve.asked import Asked, answer, read_options
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.oip_routes import write_error
from carpool.serve.operation import RUNS_A_MODEL, Header, Operation
from carpool.serve.predict import PlainCodec, write_plain

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from carpool.serve.offer import Offer
    from carpool.serve.served import Served
    from carpool.serve.signature import Shape

OPTIONS = (
    Header("X-Priority", "Higher goes sooner; below 0 is background work.", {"type": "integer"}),
    Header(
        "X-Timeout-Ms",
        "Milliseconds that the request may wait for its batch; later it is refused with 504. A batch that has begun is "
        "finished, and its answer comes when it is done.",
        {"type": "number"},
    ),
    Header("X-Tenant", "Whose share of the capacity the request uses, where keys do not say.", {"type": "string"}),
)


class PlainRequest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One item as `input`, or a list of them as `inputs`, each as the model takes it."""

    input: Any = msgspec.UNSET
    inputs: list[Any] | msgspec.UnsetType = msgspec.UNSET


class PlainResponse(msgspec.Struct, omit_defaults=True):
    """The result as `output`, or the results in order as `outputs`."""

    output: Any = msgspec.UNSET
    outputs: list[Any] | msgspec.UnsetType = msgspec.UNSET


def plain_operations(offer: Offer) -> list[Operation]:
    """Return the operations.

    Args:
        offer: the models.
    """
    codecs = _Codecs()

    def predict(exchange: Exchange) -> Awaitable[Reply] | None:
        options = read_options(exchange)

        def read(served: Served) -> Asked:
            items, many = codecs.of(served).read(exchange.body, max_rows=served.max_rows)
            return Asked(items, options, lambda results, _lengths: Reply(write_plain(results, many=many)))

        return answer(exchange, lambda: offer.named(exchange.params["model"]), read)

    return [
        Operation(
            route=Route("POST", "/predict/{model}", predict, write_error),
            summary="Run a model on plain JSON.",
            group="Plain JSON",
            answer=PlainResponse,
            request=PlainRequest,
            statuses=RUNS_A_MODEL,
            headers=OPTIONS,
        )
    ]


class _Codecs:
    """The codecs of the models, each made when its model is first asked."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[Shape | None, PlainCodec]] = {}

    def of(self, served: Served) -> PlainCodec:
        """Return the codec of a model; one that was loaded anew may take something else."""
        key, inputs = (served.name, served.version), served.signature.inputs
        made = self._made.get(key)
        if made is None or made[0] is not inputs:
            takes_token_ids = served.takes_text and served.model.info.kind == "encoder"
            made = self._made[key] = inputs, PlainCodec(served.signature, takes_token_ids=takes_token_ids)
        return made[1]
