"""A causal language model, ready to be run: its modules, and what its files say about text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFiles:
    """What a model's files say about text.

    Args:
        tokenizer: a `tokenizers.Tokenizer` that neither cuts nor pads.
        chat_template: the Jinja source that lays out a conversation; None where the model has none.
        special_tokens: what a template may name, such as ``{"bos_token": "<s>"}``.
        eos_ids: any of these tokens ends a text.
        bos_id: the token that begins a text, where there is one.
    """

    tokenizer: Any
    chat_template: str | None
    special_tokens: Mapping[str, str]
    eos_ids: frozenset[int]
    bos_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLM:
    """A causal language model on its device.

    Args:
        model: of transformers, in evaluation mode.
        tokenizer: a `tokenizers.Tokenizer` that neither cuts nor pads.
        chat_template: the Jinja source that lays out a conversation; None where the model has none.
        special_tokens: what a template may name, such as ``{"bos_token": "<s>"}``.
        eos_ids: any of these tokens ends a text.
        bos_id: the token that begins a text, where there is one.
        max_length: the longest sequence, prompt and output together, in tokens.
        vocabulary_size: V, the length of the logits; the tokenizer may use fewer.
        name: a short name of the model.
        dtype: of the weights, such as ``"bfloat16"``.
        device: such as ``"cpu"`` or ``"cuda:0"``.
        weights_bytes: memory of the weights, with what is laid out twice.
        notes: what was done to make it fast, and what could not be; a sentence each.
    """

    model: Any
    tokenizer: Any
    chat_template: str | None
    special_tokens: Mapping[str, str]
    eos_ids: frozenset[int]
    bos_id: int | None
    max_length: int
    vocabulary_size: int
    name: str
    dtype: str
    device: str
    weights_bytes: int
    notes: tuple[str, ...] = ()
