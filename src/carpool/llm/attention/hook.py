"""How transformers' attention is given over: by name, to whatever the calling thread has set.

Everything else in a model looks at one token at a time, so that the tokens of all sequences of a step may be given to
it as one row, if each is told its own position.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from carpool.errors import ConfigError
from carpool.llm.attention.interface import AttentionLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import nn

NAME = "carpool_paged"
# What some architectures add to attention, and no backend computes.
_NOT_KNOWN = {
    "s_aux": "attention sinks (s_aux)",
    "position_bias": "a position bias",
    "head_mask": "a mask of heads",
    "block_mask": "a block mask",
}


class Attend(Protocol):
    """What attention is given over to during a call of a model."""

    def attend(
        self, module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, more: dict[str, Any]
    ) -> torch.Tensor:
        """Attend in one layer.

        Args:
            module: the attention layer.
            query: (1, H, T, D).
            key: (1, K, T, D).
            value: (1, K, T, E).
            more: what else transformers gives, by name.

        Returns:
            (1, T, H, E).
        """
        ...


_ATTEND: ContextVar[Attend] = ContextVar("attend")
"""What this thread's call of a model attends by: the library hands over what it knows, and does not know this."""


def use_paged_attention(model: Any) -> None:
    """Let a model's attention be given over, from now on.

    Args:
        model: of transformers.

    Raises:
        ConfigError: it says that its attention can't be replaced.
    """
    if not model._can_set_attn_implementation() or not model._supports_attention_backend:  # noqa: SLF001
        raise ConfigError(
            f"{type(model).__name__} can't be batched step by step: its attention can't be replaced in transformers; "
            "run a model whose architecture supports attention backends, such as Llama, Qwen, Mistral, Gemma or Phi"
        )
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    model.set_attn_implementation(NAME)


@contextmanager
def attending(attend: Attend) -> Iterator[None]:
    """Give the attention of models that this thread calls meanwhile to an object.

    Args:
        attend: the object.
    """
    token = _ATTEND.set(attend)
    try:
        yield
    finally:
        _ATTEND.reset(token)


def describe(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, more: Any
) -> AttentionLayer:
    """Say what one layer's attention is, from how the model calls it.

    Args:
        module: the attention layer.
        query: (1, H, T, D).
        key: (1, K, T, D).
        value: (1, K, T, E).
        more: the call's other arguments by name.

    Raises:
        ConfigError: it is of a kind that no backend computes.
    """
    name = type(module).__name__
    unknown = [text for key_, text in _NOT_KNOWN.items() if more.get(key_) is not None]
    causal = more.get("is_causal")
    if not (getattr(module, "is_causal", True) if causal is None else causal):
        unknown.append("attention to later tokens")
    if key.shape[2] != query.shape[2]:
        unknown.append("attention to another sequence")
    if unknown:
        raise ConfigError(f"{name} has {' and '.join(unknown)}, which is not computed here: run another model")
    scaling = more.get("scaling")
    return AttentionLayer(
        num_heads=query.shape[1],
        num_kv_heads=key.shape[1],
        key_size=query.shape[3],
        value_size=value.shape[3],
        scaling=query.shape[3] ** -0.5 if scaling is None else float(scaling),
        window=more.get("sliding_window"),
        soft_cap=more.get("softcap"),
    )


def _no_mask(*_: object, **__: object) -> None:
    """Give no mask: which tokens see which is the backend's to know."""


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - there is none
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attend by what the thread has set, with the signature that transformers calls; (1, T, H, E)."""
    return _ATTEND.get().attend(module, query, key, value, more), None
