"""Vectors of language models: the last layer's, at the last token of a text, of length 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.errors import ModelError
from carpool.llm.request import Generation
from carpool.llm.sampling_params import SamplingParams
from carpool.serve import openai
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.llm.answering import QUICKLY_READ_BYTES, aside
from carpool.serve.llm.prompts import Prompt, check_token_ids, encode, room
from carpool.serve.llm.run import Run

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from carpool.serve.call import CallOptions
    from carpool.serve.llm.served import ServedLM


async def embed(exchange: Exchange, served: ServedLM, request: openai.EmbeddingsRequest, options: CallOptions) -> Reply:
    """Answer a request for vectors.

    Args:
        exchange: the request.
        served: the model.
        request: as decoded.
        options: what its headers say.

    Raises:
        Fault: it can't be answered as it is.
    """
    served.check_ready()
    call = openai.read_call(request, max_rows=served.policy.num_slots + served.policy.max_waiting)

    def read() -> list[Prompt]:
        return [_read(served, item) for item in call.items]

    prompts = read() if len(exchange.body) <= QUICKLY_READ_BYTES else await aside(served, read)
    with Run(served, [_generation(prompt, served, options) for prompt in prompts]) as run:
        parts = await run.whole()
    vectors: dict[int, Any] = {part.choice: part.output.vector for part in parts if part.output.vector is not None}
    rows = [_of_length_one(vectors[place]) for place in range(len(prompts))]
    num_tokens = sum(len(prompt.token_ids) for prompt in prompts)
    return Reply(openai.write_answer(call, rows, model=served.name, num_tokens=num_tokens))


def _read(served: ServedLM, item: Any) -> Prompt:
    if isinstance(item, str):
        prompt = encode(served, item, add_special_tokens=True, field="input")
    else:
        check_token_ids(served, item, field="input")
        prompt = Prompt(tuple(item), "")
    room(served, prompt, None, usual=1, field="input")
    return prompt


def _generation(prompt: Prompt, served: ServedLM, options: CallOptions) -> Generation:
    return Generation(
        prompt=prompt.token_ids,
        params=SamplingParams(max_tokens=1),
        priority=options.priority,
        tenant=options.tenant,
        request_id=options.request_id,
        timeout_s=options.timeout_s or served.promises.timeout_s,
        wants="vector",
    )


def _of_length_one(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not np.isfinite(length) or not length:
        raise ModelError(f"the model gave a vector of length {length:g}: its weights or its dtype are at fault")
    return (vector / length).astype(np.float32)
