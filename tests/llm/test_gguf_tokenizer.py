"""Vocabularies of GGUF files: the tokens that transformers' own conversion gives, for each kind and way to cut."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.integrations.gguf.gguf_tokenizer_mapping import convert_gguf_tokenizer

from carpool.llm.gguf_file import GGUFFile
from carpool.llm.gguf_tokenizer import gguf_text_files
from carpool.models.text import sentences
from tests.llm.tiny import byte_tokenizer

SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
TEXTS = [
    *sentences(30),
    " begins with a space, and ends with two  ",
    "Über naïve café, 中文, 🎉",
    "it's they'LL, 12345 and CamelCase/path.py\r\n\n  x",
    "",
    "\n",
]
KINDS = ["llama", "phi3", "gemma3"]
SPLITS = ["gpt-2", "qwen2", "llama-bpe", "tekken", "gpt-4o"]


@cache
def pieces() -> dict[str, Any]:
    """What a file with a SentencePiece vocabulary says: pieces learnt from the sample, and their scores."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(SPACE, prepend_scheme="always")
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=400, show_progress=False)
    tokenizer.train_from_iterator(sentences(300), trainer)
    said = json.loads(tokenizer.to_str())["model"]
    merged = ["".join(merge) for merge in said["merges"]]
    single = sorted(set(said["vocab"]) - set(merged))
    marked = ["<unk>", "<s>", "</s>", *BYTES, "<turn>", "  "]
    tokens = [*marked, *dict.fromkeys(merged), *single]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, CONTROL, USER] + [NORMAL] * (len(tokens) - len(marked))
    return {
        "model": "llama",
        "tokens": tokens,
        "scores": np.array([-float(max(0, place - len(marked))) for place in range(len(tokens))], np.float32),
        "token_type": np.array(kinds, np.int32),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }


@cache
def byte_pairs() -> dict[str, Any]:
    """What a file with a byte-level vocabulary says."""
    said = json.loads(byte_tokenizer().to_str())["model"]
    tokens = sorted(said["vocab"], key=said["vocab"].__getitem__)
    return {
        "model": "gpt2",
        "tokens": tokens,
        "merges": [" ".join(merge) for merge in said["merges"]],
        "token_type": np.array([CONTROL if place < 3 else NORMAL for place in range(len(tokens))], np.int32),
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def ours(said: dict[str, Any], architecture: str, **more: Any) -> tokenizers.Tokenizer:
    """The tokenizer that is made here."""
    metadata = {f"tokenizer.ggml.{key}": value for key, value in (said | more).items()}
    file = GGUFFile(Path("it.gguf"), metadata | {"general.architecture": architecture}, {}, np.zeros(0, np.uint8))
    tokenizer: tokenizers.Tokenizer = gguf_text_files(file).tokenizer
    return tokenizer


def theirs(said: dict[str, Any], architecture: str) -> tokenizers.Tokenizer:
    """The tokenizer that transformers makes."""
    renamed = {"model": "tokenizer_type", "pre": "pre_tokenizer_type", "unknown_token_id": "unk_token_id"}
    plain = {
        renamed.get(key, key): value.tolist() if hasattr(value, "tolist") else value for key, value in said.items()
    }
    tokenizer: tokenizers.Tokenizer = convert_gguf_tokenizer(architecture, plain)[0]
    return tokenizer


@cache
def both(architecture: str) -> tuple[tokenizers.Tokenizer, tokenizers.Tokenizer]:
    """The two for a SentencePiece vocabulary, without the token that begins a text."""
    return ours(pieces(), architecture, add_bos_token=False), theirs(pieces(), architecture)


@pytest.mark.parametrize("architecture", KINDS)
def test_pieces_are_those_of_transformers(architecture: str) -> None:
    """And the texts that they are put together to again."""
    mine, other = both(architecture)
    for text in [*TEXTS, "<s>one<turn>two</s>"]:
        ids = mine.encode(text).ids
        assert ids == other.encode(text, add_special_tokens=False).ids, text
        assert mine.decode(ids) == other.decode(ids)


@pytest.mark.parametrize("architecture", KINDS)
@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_pieces_of_any_text_are_those_of_transformers(architecture: str, text: str) -> None:
    """Bytes where no piece fits, whatever the signs."""
    mine, other = both(architecture)
    assert mine.encode(text).ids == other.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("split", SPLITS)
def test_byte_pairs_are_those_of_transformers(split: str) -> None:
    """For each way to cut a text."""
    said = byte_pairs() | {"pre": split}
    mine, other = ours(said, "llama", add_bos_token=False), theirs(said, "llama")
    for text in TEXTS:
        ids = mine.encode(text).ids
        assert ids == other.encode(text, add_special_tokens=False).ids, text
        assert mine.pre_tokenizer.pre_tokenize_str(text) == other.pre_tokenizer.pre_tokenize_str(text)
        assert mine.decode(ids) == text


def test_a_part_that_is_a_token_is_taken_whole_where_the_merges_are_ignored() -> None:
    """As Llama 3 wants it: a word in the vocabulary that no merge leads to."""
    said = byte_pairs()
    more = said | {"tokens": [*said["tokens"], "\u0120xyzzy"], "token_type": [*said["token_type"], NORMAL]}
    for split, is_whole in (("llama-bpe", True), ("qwen2", False)):
        tokenizer = ours(more | {"pre": split}, "llama", add_bos_token=False)
        assert (tokenizer.encode(" xyzzy").tokens == ["\u0120xyzzy"]) == is_whole


@pytest.mark.parametrize(
    ("said", "more", "begins", "ends"),
    [
        (pieces, {}, True, False),
        (pieces, {"add_bos_token": False}, False, False),
        (pieces, {"add_bos_token": True, "add_eos_token": True}, True, True),
        (byte_pairs, {"pre": "qwen2"}, False, False),
        (byte_pairs, {"pre": "llama-bpe"}, True, False),
        (byte_pairs, {"pre": "llama-bpe", "add_bos_token": False}, False, False),
    ],
)
def test_a_text_begins_and_ends_as_the_file_says(said: Any, more: dict[str, Any], begins: bool, ends: bool) -> None:
    """Or, where it does not, as its kind of vocabulary does."""
    ids = ours(said(), "llama", **more).encode("the end").ids
    assert (ids[0] == 1, ids[-1] == 2) == (begins, ends)
    plain = ours(said(), "llama", **more).encode("the end", add_special_tokens=False).ids
    assert ids == [1] * begins + plain + [2] * ends


def test_a_text_may_stand_without_a_space_before_it() -> None:
    """Where the file says so."""
    tokenizer = ours(pieces(), "llama", add_space_prefix=False, add_bos_token=False)
    assert not tokenizer.encode("the").tokens[0].startswith(SPACE)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text).ids) == text
