"""Any local Hugging Face encoder: texts to vectors, as sentence-transformers would give them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carpool.errors import ConfigError, TargetError
from carpool.models.encoder_check import prepare_encoder
from carpool.models.encoder_files import EncoderFiles, read_encoder_files
from carpool.models.encoder_ways import EncoderBatch, Way, padded_length, rounded
from carpool.models.encoder_weights import Work, count_work, load_encoder
from carpool.models.model import Admitted, Model, ModelInfo, Stages
from carpool.models.text import sentences
from carpool.models.threads import ThreadCount, num_cores, preferred_workers
from carpool.models.tokenize import TextTokenizer
from carpool.models.torch_device import resolve_device, resolve_dtype

_PREFERRED_TOKENS = 1024


class EncoderModel(Model):
    """An encoder from a local directory; nothing is ever downloaded.

    Batches are packed end to end where the architecture gives the same results so, which is tried at loading; else they
    are padded. `info.batching` says which it is.

    Args:
        directory: a Hugging Face or sentence-transformers directory.
        name: a short name; None takes the directory's.
        target: how to name it in messages; None takes the directory.
        device: such as ``"cpu"`` or ``"cuda:0"``; None takes the accelerator where there is one.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``; None takes bfloat16 where the device is fast at it.
        num_threads: PyTorch's threads on the CPU; None shares the cores among the workers.

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
        self._asked_threads = num_threads
        self._threads = ThreadCount(num_threads)
        self._way: Way | None = None
        self._work: Work | None = None
        self._tokenizer: TextTokenizer | None = None
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
    def preferred_tokens(self) -> int | None:
        """On the CPU, where the weights are in the cache as long as they are used; at least one text of any length."""
        return max(_PREFERRED_TOKENS, self._files.max_length) if self._device.type == "cpu" else None

    @property
    def concurrent(self) -> bool:
        """Encoding changes nothing of the encoder's own."""
        return True

    @property
    def preferred_workers(self) -> int:
        """One for each core on the CPU, or as many as the threads asked for leave cores for; one on an accelerator."""
        return 1 if self._device.type != "cpu" else preferred_workers(self._asked_threads)

    def share_cores(self, num_workers: int) -> None:
        """Compute with as many threads as leave cores for all the workers, where no number was asked for.

        Args:
            num_workers: threads that will call `run`.
        """
        if self._asked_threads is None and num_workers > 1 and self._device.type == "cpu":
            num_threads = max(1, num_cores() // num_workers)
            self._threads = ThreadCount(num_threads)
            self._info = replace(self._info, num_threads=num_threads)

    @property
    def stages(self) -> Stages:
        """Collate, transfer, encode and pool, and back."""
        return self._stages

    def load(self) -> None:
        """Read the tokenizer and the weights, and find out how the encoder is best given its batches.

        Raises:
            TargetError: the directory lacks weights or a tokenizer, or holds those of another architecture.
        """
        if self._way is not None:
            return
        self._threads.apply()
        first = self._read_weights()
        self.load_admission()
        parameters = list(first.parameters())
        self._info = replace(
            self._info,
            num_parameters=sum(p.numel() for p in parameters),
            parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        )
        self._work = count_work(first)
        found = [first]
        del first, parameters  # the weights are there once, and whoever repacks them lets the plain ones go
        assert self._tokenizer is not None, "read with what admits"
        texts = self._tokenizer.text_of_about
        self._way = prepare_encoder(lambda: found.pop() if found else self._read_weights(), self._files, texts)
        self._info = replace(self._info, batching=self._way.name)

    def load_admission(self) -> None:
        """Read the tokenizer alone.

        Raises:
            TargetError: the directory has none, or does not say how many tokens there are.
        """
        if not self._files.num_tokens:
            raise TargetError(
                f"{self._files.directory / 'config.json'} says no vocab_size, which an encoder of texts has"
            )
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer(self._files, self._files.num_tokens)

    def _read_weights(self) -> Any:
        return load_encoder(self._files.directory, self._device, self._dtype)

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
        """Encode one batch.

        Args:
            payloads: token ids of each item, in any order of length.

        Returns:
            float32 vectors, (B, D).
        """
        self._threads.apply()
        vectors: NDArray[np.float32] = self._stages.run(payloads)  # type: ignore[assignment]
        return vectors

    def padded_length(self, length: int) -> int:
        """Where texts are padded, round up, so that the number of shapes stays small; else leave it.

        Args:
            length: tokens of the longest item.
        """
        return length if self.ragged else padded_length(length, self._files)

    def rounded_total(self, num_tokens: int) -> int:
        """Round up, so that the number of shapes stays small.

        Args:
            num_tokens: of all the items.
        """
        return rounded(num_tokens)

    def _loaded(self) -> Way:
        assert self._way is not None, "load() comes before run()"
        return self._way

    def _prepare(self, payloads: Sequence[NDArray[np.int64]]) -> EncoderBatch:
        return self._loaded().prepare(payloads)

    def _to_device(self, batch: EncoderBatch) -> EncoderBatch:
        return batch.to(self._device)

    @torch.inference_mode()
    def _compute(self, batch: EncoderBatch) -> torch.Tensor:
        return self._loaded().compute(batch)

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
            length: tokens of each.
        """
        assert self._work is not None, "load() comes before flops()"
        return self._work.flops(batch_size, length)

    def close(self) -> None:
        """Let the weights go."""
        self._way = None
