"""Two ways to give an encoder a batch of texts: padded to one length, or packed end to end."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carpool.models.encoder_files import EncoderFiles
from carpool.models.packed import Layout, call_packed, lay_out, use_packed_attention
from carpool.models.pooling import pool
from carpool.models.torch_tree import to_device

# (up to this many tokens, in steps of); beyond, in steps of an eighth of the power of two below.
_STEPS = ((64, 8), (128, 16), (256, 32), (1024, 64))


def rounded(num_tokens: int) -> int:
    """Round up, so that the number of shapes stays small: the library keeps what it prepares for a thousand or so.

    What is added is a tenth on average and a fifth at most from 64 tokens on, and an eighth at most from 512 on.

    Args:
        num_tokens: a length, or the sum of lengths.
    """
    step = next((step for limit, step in _STEPS if num_tokens <= limit), (1 << (num_tokens - 1).bit_length()) // 16)
    return -(-num_tokens // step) * step


def padded_length(length: int, files: EncoderFiles) -> int:
    """What texts are padded to, the longest of which has `length` tokens.

    Args:
        length: in tokens.
        files: what the encoder's directory says.
    """
    return max(length, min(rounded(length), files.max_length))


@dataclass(frozen=True, slots=True)
class EncoderBatch:
    """A batch on the host or on the device.

    Args:
        arguments: what the encoder is called with, by name.
        lengths: tokens of each text, in the order in which they lie.
        layout: of a packed batch.
    """

    arguments: dict[str, Any]
    lengths: tuple[int, ...]
    layout: Layout | None = None

    def to(self, device: torch.device) -> "EncoderBatch":
        """Move it.

        Args:
            device: where the encoder is.
        """
        return replace(self, arguments={name: to_device(tensor, device) for name, tensor in self.arguments.items()})


class Way(ABC):
    """How an encoder is given texts.

    Args:
        encoder: of transformers, in evaluation mode.
        files: what its directory says.
    """

    name: str
    """Such as ``"packed"``."""

    def __init__(self, encoder: Any, files: EncoderFiles) -> None:
        self._encoder = encoder
        self._files = files
        self._pad_id = encoder.config.pad_token_id or 0

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        device: torch.device = self._encoder.device
        return device

    @abstractmethod
    def prepare(self, payloads: Sequence[NDArray[np.int64]]) -> EncoderBatch:
        """Make one batch on the host.

        Args:
            payloads: token ids of each text.
        """

    @abstractmethod
    def compute(self, batch: EncoderBatch) -> torch.Tensor:
        """Encode and pool.

        Args:
            batch: on the encoder's device.

        Returns:
            float32 vectors, (B, D), in the order of the payloads.
        """

    def _pool(self, hidden: torch.Tensor, batch: EncoderBatch) -> torch.Tensor:
        return pool(hidden, batch.lengths, self._files.pooling, normalize=self._files.normalize)


class PaddedWay(Way):
    """Every text is filled up to the longest one's length, rounded up; a mask says which tokens are real."""

    name = "padded"

    def prepare(self, payloads: Sequence[NDArray[np.int64]]) -> EncoderBatch:
        """Make ids and mask, (B, L) each, padding on the right."""
        lengths = tuple(len(ids) for ids in payloads)
        shape = len(payloads), padded_length(max(lengths), self._files)
        ids, mask = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
        for row, (its, length) in enumerate(zip(payloads, lengths, strict=True)):
            ids[row, :length] = its
            mask[row, :length] = 1
        return EncoderBatch({"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}, lengths)

    def compute(self, batch: EncoderBatch) -> torch.Tensor:
        """Encode all tokens, and pool the real ones."""
        hidden = self._encoder(**batch.arguments).last_hidden_state  # (B, L, D)
        return self._pool(hidden[batch.arguments["attention_mask"].bool()], batch)


class PackedWay(Way):
    """All texts lie end to end in one row, each with positions of its own; the row's length is rounded up.

    Raises:
        NotImplementedError: the encoder takes no positions, or its attention can't be replaced.
    """

    name = "packed"

    def __init__(self, encoder: Any, files: EncoderFiles) -> None:
        super().__init__(encoder, files)
        takes = inspect.signature(encoder.forward).parameters
        if "position_ids" not in takes:
            raise NotImplementedError("it takes no positions")
        self._takes_types = "token_type_ids" in takes
        use_packed_attention(encoder)

    def prepare(self, payloads: Sequence[NDArray[np.int64]]) -> EncoderBatch:
        """Make ids and positions, (1, T) each, the shortest text first."""
        lengths = [len(ids) for ids in payloads]
        layout = lay_out(lengths, rounded(sum(lengths)))
        ids, positions = np.full(layout.total, self._pad_id, np.int64), np.zeros(layout.total, np.int64)
        np.concatenate([payloads[index] for index in layout.order], out=ids[: layout.num_tokens])
        for start, num_texts, length in layout.groups:
            positions[start : start + num_texts * length] = np.tile(np.arange(length), num_texts)
        arguments = {"input_ids": ids, "position_ids": positions + self._files.first_position}
        if self._takes_types:
            arguments["token_type_ids"] = np.zeros_like(ids)
        tensors = {name: torch.from_numpy(values)[None] for name, values in arguments.items()}
        return EncoderBatch(tensors, layout.lengths, layout)

    def compute(self, batch: EncoderBatch) -> torch.Tensor:
        """Encode the row, pool each text's part of it, and put the texts back into the order in which they came."""
        assert batch.layout is not None, "a packed batch has a layout"
        hidden = call_packed(self._encoder, batch.layout, batch.arguments)
        return self._pool(hidden, batch)[batch.layout.places]
