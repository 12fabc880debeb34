"""OpenAI's embeddings API: requests into items, vectors into answers.

Everything here is a pure function of bytes and values.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from carpool.errors import ModelError
from carpool.serve.datatypes import Array, shortened
from carpool.serve.faults import FAILED, TOO_MANY, UNAUTHORIZED, Fault, bad_request
from carpool.serve.http.exchange import Reply
from carpool.serve.oip import decode_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class EmbeddingsRequest(msgspec.Struct):
    """A request for vectors: of one text, of texts, of a list of token ids, or of lists of them."""

    model: str
    input: str | list[Any]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class Usage(msgspec.Struct):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class Embedding(msgspec.Struct):
    """A vector, as numbers or as base64 of little-endian float32."""

    embedding: list[float] | str
    index: int
    object: Literal["embedding"] = "embedding"


class EmbeddingsResponse(msgspec.Struct):
    """The vectors, in the order of the inputs."""

    data: list[Embedding]
    model: str
    usage: Usage
    object: Literal["list"] = "list"


class ModelCard(msgspec.Struct):
    """A model.

    Args:
        id: its name.
        created: seconds since 1970.
        max_model_len: of one that generates, the longest prompt with what is generated, in tokens.
        owned_by: whose it is.
        object: what this is.
    """

    id: str
    created: int
    max_model_len: int | msgspec.UnsetType = msgspec.UNSET
    owned_by: str = "carpool"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct):
    """The models there are."""

    data: list[ModelCard]
    object: Literal["list"] = "list"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingCall:
    """What a request asks for.

    Args:
        items: texts, or lists of token ids.
        model: the name that the client gave.
        as_base64: vectors as base64 of little-endian float32 rather than as numbers.
        dimensions: the length of vector that the client expects; None for the model's own.
    """

    items: list[Any]
    model: str
    as_base64: bool
    dimensions: int | None

    def check_dimensions(self, own: int) -> None:
        """Refuse vectors of another length than the model's own.

        A vector may only be cut short if the model was trained for that, which its files do not tell.

        Raises:
            Fault: another length was asked for.
        """
        if self.dimensions not in (None, own):
            raise bad_request(
                f"dimensions is {self.dimensions}: this model's vectors have {own}; leave it out, or give {own}",
                param="dimensions",
            )


_decode = msgspec.json.Decoder(EmbeddingsRequest).decode
_encode = msgspec.json.Encoder().encode


def decode(body: bytes) -> EmbeddingsRequest:
    """Decode an embeddings request.

    Args:
        body: JSON, as it came.

    Raises:
        Fault: it is not such a request; the message says why.
    """
    request: EmbeddingsRequest = decode_json(_decode, body)
    return request


def read_call(request: EmbeddingsRequest, *, max_rows: int) -> EmbeddingCall:
    """Read what a request asks for.

    Args:
        request: as decoded.
        max_rows: the most inputs that one request may have.

    Raises:
        Fault: its inputs are too many, or none that can be embedded.
    """
    items = _items(request.input)
    if not 1 <= len(items) <= max_rows:
        num = f"{len(items):,} texts"
        remedy = "split it" if items else "give one at least"
        raise bad_request(f"input has {num}, of 1 to {max_rows:,} in one request: {remedy}", param="input")
    return EmbeddingCall(
        items=items,
        model=request.model,
        as_base64=request.encoding_format == "base64",
        dimensions=request.dimensions,
    )


def _items(given: str | list[Any]) -> list[Any]:
    """Tell one text, texts, one list of token ids and lists of token ids apart."""
    rows = [given] if isinstance(given, str) or (given and type(given[0]) is int) else given
    for index, row in enumerate(rows):
        if not row or not (isinstance(row, str) or _is_token_ids(row)):
            shown = repr(row)[:60]
            raise bad_request(
                f"input {index} is {shown}: give texts that are not empty, or lists of token ids", param="input"
            )
    return rows


def _is_token_ids(row: Any) -> bool:
    return isinstance(row, list) and set(map(type, row)) == {int}


def write_answer(call: EmbeddingCall, vectors: Sequence[Any], *, model: str, num_tokens: int) -> bytes:
    """Write the vectors.

    Args:
        call: the request.
        vectors: one a row, in order.
        model: its name.
        num_tokens: tokens of all rows together.

    Raises:
        ModelError: the model gave something other than finite vectors of numbers.
        Fault: the client asked for another length of vector.
    """
    rows = [_vector(row, index) for index, row in enumerate(vectors)]
    call.check_dimensions(len(rows[0]))
    data = [Embedding(embedding=_written(row, as_base64=call.as_base64), index=i) for i, row in enumerate(rows)]
    usage = Usage(prompt_tokens=num_tokens, total_tokens=num_tokens)
    return _encode(EmbeddingsResponse(data=data, model=model, usage=usage))


def _vector(value: Any, index: int) -> Array:
    vector = np.asarray(value)
    if vector.ndim != 1 or vector.dtype.kind not in "fiu" or not np.isfinite(vector).all():
        raise ModelError(f"the result of input {index} is not a vector of finite numbers: mend the model or its input")
    return vector.astype("<f4")


def _written(vector: Array, *, as_base64: bool) -> list[float] | str:
    return base64.b64encode(vector.tobytes()).decode() if as_base64 else shortened(vector).tolist()


def write_models(cards: Sequence[ModelCard]) -> bytes:
    """List the models.

    Args:
        cards: theirs.
    """
    return _encode(ModelList(list(cards)))


def write_model(card: ModelCard) -> bytes:
    """Tell of one model.

    Args:
        card: its own.
    """
    return _encode(card)


@contextmanager
def blaming_the_name() -> Iterator[None]:
    """Say of what fails in it that the field `model` is wrong."""
    try:
        yield
    except Fault as fault:
        fault.param = "model"
        raise


def write_error(fault: Fault) -> Reply:
    """Answer why a request was not answered, as OpenAI's clients expect it."""
    kind = "server_error" if fault.status >= FAILED else "invalid_request_error"
    kind = "rate_limit_error" if fault.status == TOO_MANY else kind
    kind = "authentication_error" if fault.status == UNAUTHORIZED else kind
    code = "rate_limit_exceeded" if fault.status == TOO_MANY else fault.code or None
    error = {"message": str(fault), "type": kind, "param": fault.param or None, "code": code}
    return Reply(_encode({"error": error}), fault.status, fault.headers)
