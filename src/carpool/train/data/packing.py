"""Sequences of many lengths in rows of one length, instead of a row each and padding.

Each sequence keeps its own positions and attends to itself alone, so that loss and gradients are those of the sequences
apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import index as as_index
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

import torch
from torch.nn.functional import pad

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.data.first_fit import first_fit
from carpool.train.data.lengths import Padding

if TYPE_CHECKING:
    from collections.abc import Callable

IGNORED = -100
"""The label of a token that is not learnt, as torch's and Hugging Face's losses have it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packed:
    """Sequences in R rows of T tokens.

    Args:
        input_ids: (R, T).
        position_ids: (R, T), from 0 in each sequence; 0 where there is none.
        sequence_ids: (R, T), to which of the sequences given to `pack` a token belongs; -1 where there is none.
        labels: (R, T), each token's own, not those of its successor; `IGNORED` where nothing is learnt.
        cu_seqlens: where each sequence begins and the last one ends in the R x T tokens, int32; what is left over in a
            row counts as one more sequence.
        max_seqlen: the longest of those.
        num_sequences: that were packed.
        causal: a token attends to those before it only.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    sequence_ids: torch.Tensor
    labels: torch.Tensor
    cu_seqlens: torch.Tensor
    max_seqlen: int
    num_sequences: int
    causal: bool

    def __len__(self) -> int:
        """Return how many sequences were packed."""
        return self.num_sequences

    @property
    def num_valid(self) -> int:
        """Tokens that are learnt, by which a loss summed over them is divided; for `count=` of an `Accumulator`."""
        return int((self.labels != IGNORED).sum())

    @property
    def padding(self) -> Padding:
        """What is left over in the rows."""
        return Padding(num_tokens=int((self.sequence_ids >= 0).sum()), num_padded_tokens=self.sequence_ids.numel())

    def mask(self, dtype: torch.dtype = torch.bool) -> torch.Tensor:
        """Say which token attends to which: see `packed_mask`.

        Args:
            dtype: bool, or that of the scores which it is added to.

        Returns:
            (R, 1, T, T).
        """
        return packed_mask(self.sequence_ids, causal=self.causal, dtype=dtype)

    def arguments(self, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        """What a model of transformers is called with.

        A causal one finds the sequences by their positions (or, with Flash Attention, by where they begin), but only
        without a cache, which it would make by default and then let every token see its whole row.

        Args:
            dtype: that an encoder computes in, for its mask.
        """
        given: dict[str, Any] = {"input_ids": self.input_ids, "position_ids": self.position_ids}
        if not self.causal:
            return given | {"attention_mask": self.mask(dtype)}
        begins = {"cu_seq_lens_q": self.cu_seqlens, "cu_seq_lens_k": self.cu_seqlens}
        longest = {"max_length_q": self.max_seqlen, "max_length_k": self.max_seqlen}
        return given | {"use_cache": False} | begins | longest

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """Move it to a device.

        Args:
            device: where to.
            non_blocking: do not wait, where the memory is pinned.
        """
        return self._changed(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Move it to pinned memory, as a `DataLoader` with `pin_memory=True` does."""
        return self._changed(torch.Tensor.pin_memory)

    def _changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return replace(
            self,
            input_ids=change(self.input_ids),
            position_ids=change(self.position_ids),
            sequence_ids=change(self.sequence_ids),
            labels=change(self.labels),
            cu_seqlens=change(self.cu_seqlens),
        )


def pack(
    sequences: Sequence[Any], *, row_length: int, padding_id: int = 0, causal: bool = True, look_ahead: int = 1024
) -> Packed:
    """Lay sequences one after another into as few rows as can be; with `functools.partial`, a loader's `collate_fn`.

    Args:
        sequences: of each its tokens, (L,), or a mapping that has them as `input_ids`, and maybe `labels`, (L,), else
            the tokens are learnt. There may be no sequence: that makes no row. An `attention_mask` must be all ones,
            and what else a mapping has is left out.
        row_length: T, tokens of a row.
        padding_id: the token that fills up what is left over.
        causal: a token attends to those before it, and is learnt from them: the first one of a sequence has none, and
            its label is left out. Else each attends to its whole sequence, and all labels are kept.
        look_ahead: sequences that are put into rows together.

    Raises:
        ConfigError: a sequence is empty, longer than a row, padded, no sequence of token ids or has another number of
            labels.

    >>> packed = pack([[5, 6, 7], [8, 9], [4]], row_length=4)
    >>> packed.input_ids.tolist(), packed.position_ids.tolist()
    ([[5, 6, 7, 4], [8, 9, 0, 0]], [[0, 1, 2, 0], [0, 1, 0, 0]])
    >>> packed.labels.tolist(), packed.cu_seqlens.tolist()
    ([[-100, 6, 7, -100], [-100, 9, -100, -100]], [0, 3, 4, 6, 8])
    """
    check_whole("row_length", row_length)
    padding_id = _token("padding_id", padding_id)
    read = [_read(index, sequence, causal=causal) for index, sequence in enumerate(sequences)]
    rows = first_fit([len(tokens) for tokens, _ in read], row_length, look_ahead=look_ahead) if read else []
    tokens = [_lay([read[index][0] for index in row], row_length, padding_id) for row in rows]
    labels = [_lay([read[index][1] for index in row], row_length, IGNORED) for row in rows]
    ids = [_lay([torch.full_like(read[index][0], index) for index in row], row_length, -1) for row in rows]
    places = [_lay([torch.arange(len(read[index][0])) for index in row], row_length, 0) for row in rows]
    sequence_ids = _stack(ids, row_length)
    cu_seqlens = _cu_seqlens(sequence_ids)
    return Packed(
        input_ids=_stack(tokens, row_length),
        position_ids=_stack(places, row_length),
        sequence_ids=sequence_ids,
        labels=_stack(labels, row_length),
        cu_seqlens=cu_seqlens,
        max_seqlen=int(cu_seqlens.diff().max()) if rows else 0,
        num_sequences=len(read),
        causal=causal,
    )


def packed_mask(sequence_ids: torch.Tensor, *, causal: bool = True, dtype: torch.dtype = torch.bool) -> torch.Tensor:
    """Say which token of packed rows attends to which: those of its own sequence.

    It has R x T x T elements: for long rows prefer an attention that goes by `cu_seqlens`.

    Args:
        sequence_ids: (R, T), equal for the tokens of a sequence.
        causal: and not after it.
        dtype: bool, True where a token attends, for `scaled_dot_product_attention`; or a floating one, of what is added
            to the scores: 0 there and the least number elsewhere, which each attention of transformers takes.

    Returns:
        (R, 1, T, T), for every head the same: [r, 0, i, j] is whether token i attends to token j.

    Raises:
        ConfigError: the ids are not in rows, or the type is of whole numbers.

    >>> packed_mask(torch.tensor([[0, 0, 1]]))[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    if sequence_ids.dim() != 2:  # noqa: PLR2004 - rows and their tokens
        raise ConfigError(
            f"sequence_ids has shape {tuple(sequence_ids.shape)}; it must be (rows, tokens): give one row as ids[None]"
        )
    if dtype != torch.bool and not dtype.is_floating_point:
        raise ConfigError(f"dtype is {dtype}; a mask is of torch.bool, or of the floating type of the scores")
    attends = (sequence_ids[:, :, None] == sequence_ids[:, None, :])[:, None]
    attends = attends.tril() if causal else attends
    if dtype == torch.bool:
        return attends
    return torch.zeros(attends.shape, dtype=dtype, device=attends.device).masked_fill(~attends, torch.finfo(dtype).min)


def _read(index: int, sequence: Any, *, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a sequence's tokens and labels, each (L,)."""
    if isinstance(sequence, Mapping) and "input_ids" not in sequence:
        raise ConfigError(f"sequence {index} has {', '.join(map(str, sequence))}, and no input_ids: give its tokens so")
    given = sequence["input_ids"] if isinstance(sequence, Mapping) else sequence
    tokens = _whole(f"sequence {index}", given)
    if isinstance(sequence, Mapping):
        _refuse_padding(index, sequence.get("attention_mask"))
    labels = sequence.get("labels") if isinstance(sequence, Mapping) else None
    learnt = tokens.clone() if labels is None else _whole(f"the labels of sequence {index}", labels).clone()
    if len(learnt) != len(tokens):
        raise ConfigError(
            f"sequence {index} has {len(tokens)} tokens and {len(learnt)} labels: give each token its own"
        )
    if causal:
        learnt[0] = IGNORED  # nothing comes before it
    return tokens, learnt


def _refuse_padding(index: int, mask: Any) -> None:
    num_masked = 0 if mask is None else int((_tensor(f"the attention_mask of sequence {index}", mask) == 0).sum())
    if num_masked:
        raise ConfigError(
            f"the attention_mask of sequence {index} leaves out {num_masked} tokens, which would be learnt like the "
            "others: tokenise with padding=False, or cut the padding off before packing"
        )


def _token(name: str, value: Any) -> int:
    """Return a token's id as Python's own number."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise ConfigError(f"{name} is {value!r}; it must be a whole number, as tokenizer.pad_token_id")
    return as_index(value)


def _whole(name: str, values: Any) -> torch.Tensor:
    """Return whole numbers as a tensor (L,) of int64, with L at least 1."""
    tensor = _tensor(name, values)
    if tensor.dim() != 1 or not len(tensor) or not _is_whole(tensor):
        raise ConfigError(
            f"{name} has shape {tuple(tensor.shape)} and type {tensor.dtype}: give whole numbers in one dimension, at "
            "least one"
        )
    return tensor.to("cpu", torch.int64)


def _tensor(name: str, values: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{name} is no sequence of whole numbers: {error}") from None


def _is_whole(tensor: torch.Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _lay(parts: list[torch.Tensor], row_length: int, filler: int) -> torch.Tensor:
    row = torch.cat(parts)
    return pad(row, (0, row_length - len(row)), value=filler)


def _stack(rows: list[torch.Tensor], row_length: int) -> torch.Tensor:
    return torch.stack(rows) if rows else torch.zeros(0, row_length, dtype=torch.int64)


def _cu_seqlens(sequence_ids: torch.Tensor) -> torch.Tensor:
    """Return where the id changes in the rows' tokens, one after another: no two neighbours have the same one."""
    flat = sequence_ids.flatten()
    changes = torch.nonzero(flat.diff()).flatten() + 1
    first, last = torch.zeros(min(1, len(flat)), dtype=torch.int64), torch.tensor([len(flat)])
    return torch.cat([first, changes, last]).to(torch.int32)
