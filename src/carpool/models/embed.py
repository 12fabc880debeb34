"""Any local Hugging Face encoder: texts to vectors, as sentence-transformers would give them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from carpool.errors import ConfigError
from carpool.models.encoder_files import EncoderFiles, read_encoder_files
from carpool.models.encoder_weights import encoder_flops, load_encoder
from carpool.models.model import Admitted, Model, ModelInfo, Stages
from carpool.models.pooling import pool
from carpool.models.text import sentences
from carpool.models.threads import ThreadCount
from carpool.models.tokenize import TextTokenizer
from carpool.models.torch_device import resolve_device, resolve_dtype

# (up to this length, in steps of): the waste is at most an eighth beyond 64 tokens, and 512 tokens have 20 shapes.
_STEPS = ((64, 8), (128, 16), (256, 32))
_LONG_STEP = 64


@dataclass(frozen=True, slots=True)
class Padded:
    """A batch on the host or on the device.

    Args:
        ids: token ids, (B, L), padding on the right.
        mask: 1 for a token and 0 for padding, (B, L).
    """

    ids: Any
    mask: Any


class EncoderModel(Model):
    """An encoder from a local directory; nothing is ever downloaded.

    Args:
        directory: a Hugging Face or sentence-transformers directory.
        name: a short name; None takes the directory's.
        target: how to name it in messages; None takes the directory.
        device: such as ``"cpu"`` or ``"cuda:0"``; None takes the accelerator where there is one.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; None takes bfloat16 where the device is fast at it.
        num_threads: PyTorch's threads on the CPU; None leaves its choice.

    Raises:
        TargetError: the directory asks for something that is not known here.
        ConfigError: the device or dtype is not to be had.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        name: str | None = None,
        target: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        path = Path(directory)
        self._files: EncoderFiles = read_encoder_files(path)
        self._device = resolve_device(device)
        self._dtype = resolve_dtype(dtype, self._device)
        self._threads = ThreadCount(num_threads)
        self._encoder: nn.Module | None = None
        self._tokenizer: TextTokenizer | None = None
        self._pad_id = 0
        self._stages = Stages(self._prepare, self._to_device, self._compute, self._to_host, self._finish)
        self._info = ModelInfo(
            name=name or path.resolve().name,
            kind="encoder",
            target=target or str(directory),
            device=str(self._device),
            dtype=str(self._dtype).removeprefix("torch."),
            num_threads=num_threads,
            max_length=self._files.max_length,
        )

    @property
    def info(self) -> ModelInfo:
        """What this model is; its parameters are counted once it is loaded."""
        return self._info

    @property
    def has_length(self) -> bool:
        """Texts differ in tokens."""
        return True

    @property
    def stages(self) -> Stages:
        """Collate, transfer, encode and pool, and back."""
        return self._stages

    def load(self) -> None:
        """Read the tokenizer and the weights.

        Raises:
            TargetError: the directory lacks weights or a tokenizer, or holds those of another architecture.
        """
        if self._encoder is not None:
            return
        self._threads.apply()
        encoder = load_encoder(self._files.directory, self._device, self._dtype)
        num_tokens = encoder.get_input_embeddings().num_embeddings
        self._tokenizer = TextTokenizer(self._files, num_tokens)
        self._pad_id = encoder.config.pad_token_id or 0
        parameters = list(encoder.parameters())
        self._info = replace(
            self._info,
            num_parameters=sum(p.numel() for p in parameters),
            parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        )
        self._encoder = encoder

    def admit(self, item: object) -> Admitted:
        """Turn a text into token ids, cut at the model's longest length; token ids are taken as they are.

        Args:
            item: a text, or a list of token ids with the special ones in their places.

        Raises:
            InvalidItem: it is neither, or an id or the number of ids is out of range.
        """
        assert self._tokenizer is not None, "load() comes before admit()"
        ids = self._tokenizer.admit(item)
        return Admitted(ids, len(ids))

    def run(self, payloads: Sequence[NDArray[np.int64]]) -> NDArray[np.float32]:
        """Encode one batch, padded to its longest item's length, rounded up.

        Args:
            payloads: token ids of each item, in any order of length.

        Returns:
            float32 vectors, (B, D).
        """
        self._threads.apply()
        vectors: NDArray[np.float32] = self._stages.run(payloads)  # type: ignore[assignment]
        return vectors

    def padded_length(self, length: int) -> int:
        """Round up, so that the number of shapes stays small: a new shape costs much on its first use.

        Args:
            length: tokens of the longest item.
        """
        step = next((step for limit, step in _STEPS if length <= limit), _LONG_STEP)
        return max(length, min(-(-length // step) * step, self._files.max_length))

    def _prepare(self, payloads: Sequence[NDArray[np.int64]]) -> Padded:
        lengths = [len(ids) for ids in payloads]
        shape = len(payloads), self.padded_length(max(lengths))
        ids, mask = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
        for row, (its, length) in enumerate(zip(payloads, lengths, strict=True)):
            ids[row, :length] = its
            mask[row, :length] = 1
        return Padded(ids, mask)

    def _to_device(self, batch: Padded) -> Padded:
        ids, mask = torch.from_numpy(batch.ids), torch.from_numpy(batch.mask)
        return Padded(ids.to(self._device), mask.to(self._device))

    @torch.inference_mode()
    def _compute(self, batch: Padded) -> torch.Tensor:
        assert self._encoder is not None, "load() comes before run()"
        hidden = self._encoder(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state  # (B, L, D)
        return pool(hidden, batch.mask, self._files.pooling, normalize=self._files.normalize)

    def _to_host(self, vectors: torch.Tensor) -> NDArray[np.float32]:
        on_host: NDArray[np.float32] = vectors.cpu().numpy()
        return on_host

    def _finish(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Real English sentences of 5 to 200 words, or token ids of real text cut to an exact length.

        Args:
            num_items: how many.
            length: exactly so many tokens each, special ones included; None for sentences.
            seed: another seed gives others.

        Raises:
            ConfigError: the length is out of the model's range.
        """
        if length is None:
            return list(sentences(num_items, seed=seed))
        if self._tokenizer is None:
            raise ConfigError("examples of an exact length need the tokenizer; call load() first")
        return list(self._tokenizer.of_length(num_items, length, seed=seed))

    def flops(self, batch_size: int, length: int) -> float | None:
        """Matrix products and attention of one batch; None for an architecture whose formula is not known.

        Args:
            batch_size: texts in the batch.
            length: tokens that each is padded to.
        """
        assert self._encoder is not None, "load() comes before flops()"
        return encoder_flops(self._encoder, batch_size, length)

    def close(self) -> None:
        """Let the weights go."""
        self._encoder = None
