"""Tokenizers of the kinds that language models have."""

from __future__ import annotations

import functools

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from carpool.llm.gguf_file import read_gguf
from carpool.llm.gguf_tokenizer import gguf_text_files
from carpool.models.demo import smollm2_gguf

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "Ein schneller Fuchs — größer als üblich — springt; 10 °C, 5 €.",
    "def f(x):\n    return {'a': [1, 2, 3], \"b\": None}\n",
]


@functools.cache
def smollm2() -> Tokenizer:
    """SmolLM2's own, from its file: byte-level BPE."""
    tokenizer: Tokenizer = gguf_text_files(read_gguf(smollm2_gguf())).tokenizer
    return tokenizer


def byte_level() -> Tokenizer:
    """A small byte-level BPE, with a token added that is no bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|end|>", "<|start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens([AddedToken("日本 plain", normalized=False)])
    return tokenizer


def sentence_piece(*, strips: bool = True) -> Tokenizer:
    """One like Llama 2's or Gemma's: a mark for spaces, and bytes for characters that are not in the vocabulary."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False)
    )
    tokenizer = _without_special_bytes(tokenizer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if strips else steps)
    return tokenizer


def _without_special_bytes(trained: Tokenizer) -> Tokenizer:
    """The same vocabulary, in which the bytes are tokens like others."""
    tokenizer = Tokenizer(trained.model)
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return tokenizer


def metaspace() -> Tokenizer:
    """One whose first token loses all its marks."""
    tokenizer = sentence_piece()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def words() -> Tokenizer:
    """Whole words, joined by spaces: no decoder at all."""
    vocabulary = {word: place for place, word in enumerate(sorted({*" ".join(CORPUS).split(), "<unk>"}))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def word_pieces() -> Tokenizer:
    """Parts of words, where all but the first begin with a mark."""
    names = ["[UNK]", "the", "dog", "##s", "##ly", ".", ",", "do", "n't", "'", "fox"]
    tokenizer = Tokenizer(models.WordPiece({name: place for place, name in enumerate(names)}, unk_token="[UNK]"))  # noqa: S106
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
