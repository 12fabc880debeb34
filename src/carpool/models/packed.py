"""Texts laid end to end in one row of tokens, without padding: each attends to itself alone.

Everything in an encoder but attention looks at one token at a time, so that it may be given the tokens of many texts as
one row, if each token is told its own position. Attention is then computed text by text: those of equal length
lie side by side in the row, and are one call. transformers lets a model's attention be replaced by name.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "carpool_packed"
# What some architectures add to attention, and what is not computed here.
_NOT_KNOWN = ("softcap", "position_bias", "s_aux")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where texts lie in a packed row.

    Args:
        order: the text that comes first, second, and so on; the shortest first.
        lengths: tokens of each, in that order.
        groups: (first token, texts, tokens of each) of every run of texts of equal length.
        total: tokens of the row, with those at its end that belong to no text.
    """

    order: tuple[int, ...]
    lengths: tuple[int, ...]
    groups: tuple[tuple[int, int, int], ...]
    total: int

    @property
    def num_tokens(self) -> int:
        """Tokens that belong to a text."""
        return sum(self.lengths)

    @property
    def places(self) -> list[int]:
        """For each text, where in the order it lies."""
        return sorted(range(len(self.order)), key=self.order.__getitem__)


def lay_out(lengths: Sequence[int], total: int) -> Layout:
    """Lay texts end to end, the shortest first.

    Args:
        lengths: tokens of each.
        total: tokens of the row, at least their sum.

    >>> lay_out([3, 2, 3], total=16).groups
    ((0, 1, 2), (2, 2, 3))
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    ordered = tuple(lengths[index] for index in order)
    groups, start = [], 0
    for length, equal in groupby(ordered):
        num_texts = len(list(equal))
        groups.append((start, num_texts, length))
        start += num_texts * length
    return Layout(tuple(order), ordered, tuple(groups), total)


@dataclass(slots=True)
class _Call:
    """One call of an encoder: the layout of its row, and how often its attention went by it."""

    layout: Layout
    num_attended: int = 0


_CALL: ContextVar[_Call] = ContextVar("call")
"""What this thread runs: the library hands over what it knows, and does not know this."""


def call_packed(encoder: Any, layout: Layout, arguments: dict[str, torch.Tensor]) -> torch.Tensor:
    """Run an encoder on a packed row.

    Args:
        encoder: one that `use_packed_attention` has prepared.
        layout: of the row.
        arguments: of the encoder: `input_ids` and `position_ids`, each (1, T).

    Returns:
        The last layer's vectors of the texts' tokens, (sum of lengths, D).

    Raises:
        NotImplementedError: its attention took no notice of the layout.
    """
    call = _Call(layout)
    token = _CALL.set(call)
    try:
        hidden: torch.Tensor = encoder(attention_mask=None, **arguments).last_hidden_state
    finally:
        _CALL.reset(token)
    if not call.num_attended:
        raise NotImplementedError("its attention is its own, and looks at the whole row")
    return hidden[0, : layout.num_tokens]


def use_packed_attention(encoder: Any) -> None:
    """Let an encoder's attention go by the layout of the row that it is given.

    An architecture may have an attention of its own that takes no notice; only its results can tell.

    Args:
        encoder: of transformers.

    Raises:
        NotImplementedError: it says that its attention can't be replaced.
    """
    if not encoder._can_set_attn_implementation():  # noqa: SLF001 - else it warns, and leaves it as it is
        raise NotImplementedError("its attention can't be replaced")
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, _no_mask)
    encoder.set_attn_implementation(NAME)


def _no_mask(*_: object, **__: object) -> None:
    """Give no mask: which tokens belong together is in the layout."""


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within each text of a packed row, with the signature that transformers calls.

    Args:
        module: the attention layer.
        query: (1, H, T, D).
        key: (1, H, T, D), or fewer heads that several of the query's share.
        value: as the key.
        attention_mask: none.
        scaling: what products are multiplied by.
        is_causal: whether a token sees only those before it; None asks the module.
        sliding_window: how near a token must be to be seen: distances below this; None for any.
        more: of other kinds of attention.

    Returns:
        (1, T, H, D), and no weights.

    Raises:
        NotImplementedError: the architecture adds something that is not computed here.
    """
    unknown = [name for name in _NOT_KNOWN if more.get(name) is not None]
    if unknown or attention_mask is not None:
        raise NotImplementedError(f"packed attention knows no {', '.join(unknown) or 'attention_mask'}")
    call, (heads, total, size) = _CALL.get(), query.shape[1:]
    call.num_attended += 1
    layout = call.layout
    shared = heads // key.shape[1]
    rows = [query, *(each.repeat_interleave(shared, dim=1) if shared > 1 else each for each in (key, value))]
    q, k, v = (each[0].transpose(0, 1) for each in rows)  # (T, H, D)
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    out = query.new_empty(total, heads, value.shape[-1])
    out[layout.num_tokens :] = 0
    for start, num_texts, length in layout.groups:
        part, shape = slice(start, start + num_texts * length), (num_texts, length, heads)
        mask = _window(length, sliding_window, causal=causal, device=query.device)
        out[part] = (
            nn.functional.scaled_dot_product_attention(
                q[part].view(*shape, size).transpose(1, 2),
                k[part].view(*shape, size).transpose(1, 2),
                v[part].view(*shape, value.shape[-1]).transpose(1, 2),
                attn_mask=mask,
                is_causal=causal and mask is None and length > 1,
                scale=scaling,
            )
            .transpose(1, 2)
            .reshape(num_texts * length, heads, -1)
        )
    return out[None], None


def _window(length: int, window: int | None, *, causal: bool, device: torch.device) -> torch.Tensor | None:
    """Which tokens see which, (length, length); None where the window leaves out nothing."""
    if window is None or length <= window:
        return None
    places = torch.arange(length, device=device)
    behind = places[:, None] - places
    return (behind.abs() < window) & (behind >= 0) if causal else behind.abs() < window
