"""What an engine is put together from."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Tokenizer

from carpool.llm.chat import ChatTemplate
from carpool.llm.runner import Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an engine works with, once it is loaded.

    Args:
        runner: computes the steps.
        tokenizer: turns tokens into text.
        eos_ids: tokens that end a sequence.
        name: what the model is called.
        dtype: what it computes in.
        device: where.
        chat: its chat template; None where it has none.
    """

    runner: Runner
    tokenizer: Tokenizer
    eos_ids: frozenset[int] = frozenset()
    name: str = ""
    dtype: str = ""
    device: str = "cpu"
    chat: ChatTemplate | None = None
