"""What is sent for each item of a planned load: a body of its length, with its deadline and priority."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from carpool.loadgen.http import Requests
from carpool.serve.oip_parameters import priority_level
from carpool.verify.texts import TextsOfLength

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.plan.stream import Stream


class PlannedBodies:
    """Turns drawn items into requests.

    Args:
        made_up: requests that the model takes, as `carpool.loadgen.discover` builds them for a server of ours.
        length_of: tokens of a text by the model's own count; None where items have no length.
        seed: another seed gives other texts.
    """

    def __init__(self, made_up: Requests, length_of: Callable[[str], int] | None, *, seed: int) -> None:
        self._made_up = made_up
        self._documents: list[dict[str, Any]] = [json.loads(body) for body in made_up.bodies]
        takes_text = takes_one_text(self._documents[0])
        self._texts = TextsOfLength(length_of, seed=seed) if length_of is not None and takes_text else None
        self._encoded: dict[tuple[object, ...], bytes] = {}

    @property
    def have_lengths(self) -> bool:
        """Whether bodies are made to the lengths that were drawn."""
        return self._texts is not None

    def requests(self, stream: Stream) -> Requests:
        """Return requests of which number i is for item i."""
        num = len(stream)
        deadlines_s = [math.inf] * num if stream.deadlines_s is None else stream.deadlines_s.tolist()
        priorities = [0] * num if stream.priorities is None else stream.priorities.tolist()
        used: Counter[int] = Counter()
        bodies = []
        for length, deadline_s, priority in zip(stream.lengths.tolist(), deadlines_s, priorities, strict=True):
            bodies.append(self._body(length, used[length], deadline_s, priority))
            used[length] += 1
        return Requests(self._made_up.url, bodies or self._made_up.bodies, self._made_up.headers)

    def _body(self, length: int, number: int, deadline_s: float, priority: int) -> bytes:
        """Return the body of the item which is the so-manieth of its length; equal ones are one object."""
        if self._texts is None:
            number %= len(self._documents)
            what: object = number
            document = self._documents[number]
        else:
            what = _pick(self._texts.of(length), number)
            document = with_text(self._documents[0], what)
        key = (what, deadline_s, priority)
        if key not in self._encoded:
            self._encoded[key] = encode(document, deadline_s, priority)
        return self._encoded[key]


def _pick(texts: Sequence[str], number: int) -> str:
    return texts[number % len(texts)]


def takes_one_text(document: dict[str, Any]) -> bool:
    """Tell whether a request of the Open Inference Protocol holds one text and nothing else."""
    return [tensor["datatype"] for tensor in document["inputs"]] == ["BYTES"] and len(
        document["inputs"][0]["data"]
    ) == 1


def with_text(document: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a request with another text."""
    return {**document, "inputs": [{**document["inputs"][0], "data": [text]}]}


def encode(document: dict[str, Any], deadline_s: float, priority: int) -> bytes:
    """Write a request, with a deadline in seconds (infinite for none) and a priority (0 for none)."""
    parameters: dict[str, int] = {}
    if priority:
        parameters["priority"] = priority_level(priority)
    if deadline_s < math.inf:
        parameters["timeout"] = max(1, round(deadline_s * 1e6))
    whole = {**document, "parameters": parameters} if parameters else document
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False).encode()
