"""Texts to token ids: one text at a time, from any thread."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from carpool.errors import ConfigError, InvalidItem, TargetError
from carpool.models.encoder_files import EncoderFiles
from carpool.models.text import sentences

_OLDER_FILES = ("vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model")


class TextTokenizer:
    """The tokenizer of an encoder's directory, cutting texts at its longest length.

    `admit` may be called from many threads at once: the tokenizer below holds no state between calls.

    Args:
        files: what the directory says.
        num_tokens: the size of the model's vocabulary; larger ids are refused.

    Raises:
        TargetError: the directory has no tokenizer, or one that can't be read.
    """

    def __init__(self, files: EncoderFiles, num_tokens: int) -> None:
        self._files = files
        self._num_tokens = num_tokens
        self._tokenizer = _read_tokenizer(files)
        self._tokenizer.enable_truncation(files.max_length)
        self._tokenizer.no_padding()

    def admit(self, item: object) -> NDArray[np.int64]:
        """The token ids of a text, or the ids given, checked.

        Args:
            item: a text, or token ids with the special ones already in their places.

        Returns:
            Token ids, (length,).

        Raises:
            InvalidItem: it is neither, or an id or the length is out of range.
        """
        if isinstance(item, str):
            return self._encode(item)
        if isinstance(item, list | tuple | np.ndarray):
            return self._checked(item)
        raise InvalidItem(f"an item must be a text or a list of token ids, not {type(item).__name__}")

    def _encode(self, text: str) -> NDArray[np.int64]:
        text = self._files.prompt + text
        if self._files.lower_case:
            text = text.lower()
        try:
            ids = self._tokenizer.encode(text).ids
        except (TypeError, UnicodeError) as error:
            raise InvalidItem(f"a text can't be encoded as UTF-8: {error}") from error
        if not ids:
            raise InvalidItem(f"the text {text[:40]!r} has no tokens; send at least one word")
        return np.array(ids, dtype=np.int64)

    def _checked(self, item: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        try:
            ids = np.asarray(item)
        except ValueError as error:
            raise InvalidItem(f"token ids must be one flat list of whole numbers: {error}") from error
        if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
            raise InvalidItem(f"token ids must be a flat, not empty list of whole numbers, not {ids.dtype} {ids.shape}")
        limit = self._files.max_length
        if not 1 <= len(ids) <= limit:
            raise InvalidItem(
                f"{len(ids)} token ids were given; the model takes 1 to {limit}: cut the list, or send text"
            )
        wrong = ids[(ids < 0) | (ids >= self._num_tokens)]
        if len(wrong):
            raise InvalidItem(
                f"token id {wrong[0]} is not in the vocabulary; it must be from 0 to {self._num_tokens - 1}"
            )
        return ids.astype(np.int64)

    def of_length(self, num_items: int, length: int, *, seed: int) -> list[list[int]]:
        """Token ids of real English text, cut to an exact length.

        Args:
            num_items: how many.
            length: tokens of each, special ones included.
            seed: another seed gives other text.

        Raises:
            ConfigError: the length is out of the model's range.
        """
        num_special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if not num_special < length <= self._files.max_length:
            limits = f"{num_special + 1} to {self._files.max_length} tokens, {num_special} special ones included"
            raise ConfigError(f"length {length} can't be had: this model takes {limits}")
        pool = itertools.cycle(sentences(num_items, seed=seed))
        before, after = self._special_ids()
        return [before + self._real_ids(pool, length - num_special) + after for _ in range(num_items)]

    def text_of_about(self, length: int) -> NDArray[np.int64]:
        """Token ids of one text of this length, or of the nearest that the model takes.

        Args:
            length: tokens, special ones included.
        """
        shortest = self._tokenizer.num_special_tokens_to_add(is_pair=False) + 1
        length = min(max(length, shortest), self._files.max_length)
        return np.array(self.of_length(1, length, seed=length)[0], dtype=np.int64)

    def _real_ids(self, texts: Iterator[str], length: int) -> list[int]:
        ids: list[int] = []
        while len(ids) < length:
            ids += self._tokenizer.encode(next(texts), add_special_tokens=False).ids
        return ids[:length]

    def _special_ids(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after every text."""
        encoding = self._tokenizer.encode("the")
        is_special = encoding.special_tokens_mask
        num_before = next((i for i, special in enumerate(is_special) if not special), 0)
        num_after = next((i for i, special in enumerate(reversed(is_special)) if not special), 0)
        return encoding.ids[:num_before], encoding.ids[len(encoding.ids) - num_after :]


def _read_tokenizer(files: EncoderFiles) -> tokenizers.Tokenizer:
    path = files.directory / "tokenizer.json"
    # Without any of these the library would make a tokenizer with an empty vocabulary.
    older = [name for name in _OLDER_FILES if (files.directory / name).is_file()]
    if not path.is_file() and not older:
        raise TargetError(f"{files.directory} has no tokenizer: neither tokenizer.json nor {', '.join(_OLDER_FILES)}")
    try:
        return tokenizers.Tokenizer.from_file(str(path)) if path.is_file() else _converted(files)
    except TargetError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise TargetError(f"the tokenizer in {files.directory} can't be read: {error}") from error


def _converted(files: EncoderFiles) -> tokenizers.Tokenizer:
    """A tokenizer from the older files (vocab.txt, sentencepiece), which transformers knows to convert."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(files.directory, local_files_only=True, trust_remote_code=False)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        raise TargetError(f"{type(tokenizer).__name__} has no fast form; save a tokenizer.json beside config.json")
    return backend
