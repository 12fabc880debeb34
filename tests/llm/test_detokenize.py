"""Text from tokens one by one, held against decoding them all at once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.llm.token_texts import TokenTexts
from tests.llm import tokenizers_to_test as kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from tokenizers import Tokenizer

    from carpool.llm.detokenize import Detokenizer

TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "smollm2": kinds.smollm2,
    "byte level": kinds.byte_level,
    "sentence piece": kinds.sentence_piece,
    "sentence piece without strip": functools.partial(kinds.sentence_piece, strips=False),
    "metaspace": kinds.metaspace,
    "words": kinds.words,
    "word pieces": kinds.word_pieces,
}
PICTURES = "naïve 5 € 日本語 👩‍👩‍👧 \U0001f600\U0001f600 \x00\x7f"


UNKNOWN = "\N{REPLACEMENT CHARACTER}"


@functools.cache
def made(kind: str) -> tuple[Tokenizer, TokenTexts]:
    """A tokenizer, and what turns its tokens into text."""
    tokenizer = TOKENIZERS[kind]()
    return tokenizer, TokenTexts(tokenizer)


def byte_tokens(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """The tokens of single bytes."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[f"<0x{byte:02X}>"] for byte in data]


def text_of(detokenizer: Detokenizer, tokens: list[int]) -> str:
    """What comes out, put together."""
    return "".join(map(detokenizer.push, tokens)) + detokenizer.flush()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("skip_special", [True, False])
@given(data=st.data())
def test_tokens_one_by_one_give_what_they_give_together(kind: str, skip_special: bool, data: st.DataObject) -> None:
    """Whatever the tokens: bytes that are no UTF-8, special tokens, ids that do not exist."""
    tokenizer, texts = made(kind)
    size = tokenizer.get_vocab_size()
    tokens = data.draw(st.lists(st.integers(0, size + 3) | st.integers(0, min(size, 270)), max_size=30))
    together = tokenizer.decode(tokens, skip_special_tokens=skip_special)
    assert text_of(texts.detokenizer(skip_special=skip_special), tokens) == together


@pytest.mark.parametrize("kind", ["smollm2", "byte level", "sentence piece", "sentence piece without strip"])
@given(text=st.text(max_size=30) | st.text("aé€😀 ▁\n", max_size=30))
def test_text_comes_back_and_never_half_a_character(kind: str, text: str) -> None:
    """Each piece is a part of the text, so that no replacement character stands for one that was cut."""
    tokenizer, texts = made(kind)
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    together, sent, detokenizer = tokenizer.decode(tokens), "", texts.detokenizer()
    for token in tokens:
        sent += detokenizer.push(token)
        assert together.startswith(sent)
    assert sent + detokenizer.flush() == together


@pytest.mark.parametrize(
    "kind", ["smollm2", "byte level", "sentence piece", "sentence piece without strip", "metaspace"]
)
@given(cut=st.integers(1, 200))
def test_a_text_goes_on_from_its_prompt(kind: str, cut: int) -> None:
    """Prompt and text are together what their tokens are, wherever they are cut: spaces, and halves of characters."""
    tokenizer, texts = made(kind)
    tokens = tokenizer.encode("Ha! " + PICTURES * 3, add_special_tokens=False).ids
    cut = min(cut, len(tokens))
    whole, prompt = tokenizer.decode(tokens), tokenizer.decode(tokens[:cut])
    text = text_of(texts.detokenizer(tokens[:cut]), tokens[cut:])
    before = whole.removesuffix(text)
    assert before + text == whole
    if prompt.endswith(UNKNOWN):  # of bytes that are not whole, whose whole characters some decoders lose too
        assert before.startswith(prompt.rstrip(UNKNOWN))
    else:
        assert before == prompt


def test_whole_characters_are_given_at_once() -> None:
    """Where tokens are bytes, nothing waits for the next token but what is not whole."""
    tokenizer, texts = made("smollm2")
    detokenizer = texts.detokenizer()
    tokens = tokenizer.encode("a😀b", add_special_tokens=False).ids
    given_so_far = [detokenizer.push(token) for token in tokens]
    assert given_so_far[0] == "a"
    assert [piece for piece in given_so_far if piece] == ["a", "😀", "b"]


def test_what_never_became_whole_is_given_at_the_end() -> None:
    """A text that ends within a character ends with a replacement character."""
    tokenizer, texts = made("smollm2")
    tokens = tokenizer.encode("😀", add_special_tokens=False).ids[:-1]
    detokenizer = texts.detokenizer()
    assert [detokenizer.push(token) for token in tokens] == [""] * len(tokens)
    assert detokenizer.flush() == UNKNOWN


def test_a_long_run_of_bytes_is_given_as_it_comes() -> None:
    """A script that is all bytes does not wait for its end: no more than 64 bytes are held."""
    tokenizer, texts = made("sentence piece")
    detokenizer = texts.detokenizer()
    tokens = byte_tokens(tokenizer, ("བོད་" * 40).encode())
    sent = ""
    for place, token in enumerate(tokens, start=1):
        sent += detokenizer.push(token)
        assert len(sent.encode()) >= place - 64 - 2
    assert sent + detokenizer.flush() == "བོད་" * 40


def test_bytes_that_are_no_text_are_given_as_soon_as_that_is_clear() -> None:
    """One replacement character for each byte of the run, as decoding all of it at once gives."""
    tokenizer, texts = made("sentence piece")
    tokens = byte_tokens(tokenizer, b"\xe2\x82\xff\x41")
    detokenizer = texts.detokenizer()
    assert [detokenizer.push(token) for token in tokens] == [
        "",
        "",
        UNKNOWN * 3,
        UNKNOWN,
    ]
    assert detokenizer.flush() == ""
