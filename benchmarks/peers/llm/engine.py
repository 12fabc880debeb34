"""What every engine is asked to do: the same token ids in, the same numbers of token ids out, greedily.

These modules run in environments of their own: besides an engine itself they import nothing but the standard library.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

Listener = Callable[[int], None]
"""Told how many tokens of a request have come so far, as soon as more have; on any thread."""


def end_if_failed(future: Future[None]) -> None:
    """End the visit where a request failed: tokens that never came would count as late, not as a fault."""
    error = future.exception()
    if error is not None:
        traceback.print_exception(error)
        os._exit(1)


@dataclass(frozen=True)
class Request:
    """One request: a prompt, and how many tokens are to follow, whatever they are.

    Args:
        prompt: token ids.
        num_output: tokens to generate; an end token does not end it.
    """

    prompt: list[int]
    num_output: int


@dataclass(frozen=True)
class Settings:
    """What an engine is started with.

    Args:
        model: a directory of weights, as the engine reads them.
        num_slots: most sequences at once.
        max_length: most tokens of a sequence, prompt and output.
        kv: what its cache holds keys and values in, where that can be chosen; empty for its default.
        deterministic: give each request the same logits whatever runs beside it, where an engine can.
        online: requests will come one at a time (`submit`); otherwise all at once (`generate`).
    """

    model: str
    num_slots: int
    max_length: int
    kv: str
    deterministic: bool
    online: bool


class Engine(Protocol):
    """An engine that is ready to work."""

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Answer requests that are all there from the start; give the tokens of each."""
        ...

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Take one more request, at once, without waiting for any; the listener is told of its tokens."""
        ...
