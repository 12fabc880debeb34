"""What every engine is asked to do: prompts of random tokens, lengths as people's requests have them, one seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.plan.arrivals import poisson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Request = dict[str, Any]
"""`prompt`, a list of token ids, and `num_output`."""

NUM_SLOTS = 64
MAX_LENGTH = 1024
NUM_REQUESTS = 96
LONGEST_OUTPUT = 384
NUM_WARM = 16
WARM_OUTPUT = 8
SINGLE = (100, 128)
TOKENS = (100, 48_000)  # what comes first and last in the vocabulary is special


@dataclass(frozen=True, slots=True)
class Loop:
    """An open loop.

    Args:
        rate: requests a second.
        requests: in the order of their arrival.
        due: when each comes, seconds from the start.
    """

    rate: float
    requests: list[Request]
    due: list[float]


def requests(num: int, seed: int = 0) -> list[Request]:
    """Draw requests: lognormal lengths, medians of 99 prompt and 81 output tokens, at most 512 and 384.

    Example:
        >>> found = requests(96)
        >>> sum(len(one["prompt"]) for one in found), sum(one["num_output"] for one in found)
        (12851, 8944)
    """
    rng = np.random.default_rng(seed)
    prompts = np.clip(rng.lognormal(4.6, 0.7, num), 16, 512).astype(int)
    outputs = np.clip(rng.lognormal(4.4, 0.7, num), 8, LONGEST_OUTPUT).astype(int)
    return [_request(rng, prompt, output) for prompt, output in zip(prompts, outputs, strict=True)]


def warm_up() -> list[Request]:
    """Requests of many lengths and few tokens, none of which is measured."""
    return [one | {"num_output": WARM_OUTPUT} for one in requests(NUM_WARM, seed=1)]


def single() -> list[Request]:
    """One request, alone."""
    return [_request(np.random.default_rng(2), *SINGLE)]


def loop(rate: float, seconds: float, number: int) -> Loop:
    """Draw an open loop with Poisson arrivals; another number gives other requests at other times."""
    due = poisson(rate, seconds, np.random.default_rng(1_000 + number)).tolist()
    return Loop(rate, requests(len(due), seed=2_000 + number), due)


def num_output(found: Sequence[Request]) -> int:
    """Tokens that are asked for."""
    return sum(one["num_output"] for one in found)


def _request(rng: np.random.Generator, num_prompt: int, output: int) -> Request:
    prompt: NDArray[np.int64] = rng.integers(*TOKENS, num_prompt)
    return {"prompt": prompt.tolist(), "num_output": int(output)}
