"""What a tokenizer's tokens stand for, and how they are put together again.

Sources: the decoders of Hugging Face's tokenizers library, whose results these are; the printable stand-ins of bytes
are those of GPT-2's vocabulary.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from carpool.llm.detokenize import ByteDetokenizer, PieceDetokenizer, WindowDetokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tokenizers import Tokenizer

    from carpool.llm.detokenize import Detokenizer

_Decoder: TypeAlias = dict[str, Any]
_Piece = TypeVar("_Piece")
_TAIL = 32
"""Tokens at the end of a prompt that its text may go on from: more than any character has bytes."""
_BYTE_TOKEN = len("<0xFF>")


class TokenTexts:
    """The texts of a tokenizer's tokens, looked up once each; made once a model.

    Args:
        tokenizer: whose.

    >>> from tokenizers import Tokenizer, decoders, models
    >>> tokenizer = Tokenizer(models.WordLevel({"<0xE2>": 0, "<0x82>": 1, "<0xAC>": 2, "▁1": 3}))
    >>> tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    >>> detokenizer = TokenTexts(tokenizer).detokenizer()
    >>> [detokenizer.push(token) for token in (0, 1, 2, 3)]
    ['', '', '', '€ 1']
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        special = {token for token, added in tokenizer.get_added_tokens_decoder().items() if added.special}
        self._without_special = _starter(tokenizer, frozenset(special))
        self._with_special = _starter(tokenizer, frozenset())

    def detokenizer(self, prompt: Sequence[int] = (), *, skip_special: bool = True) -> Detokenizer:
        """Make one for a sequence.

        Args:
            prompt: the tokens that its text goes on from: the first token of a text loses its space, later ones don't.
            skip_special: leave out tokens that mark something, such as the end of the text.
        """
        made = self._without_special() if skip_special else self._with_special()
        for token in prompt[-_TAIL:]:
            made.push(token)
        made.forget()
        return made


class _Table(dict[int, _Piece], Generic[_Piece]):
    """What tokens stand for, found out when they first come; `nothing` for those that are left out or do not exist."""

    def __init__(
        self, tokenizer: Tokenizer, skipped: frozenset[int], nothing: _Piece, read: Callable[[str], _Piece]
    ) -> None:
        super().__init__()
        self._find = tokenizer.id_to_token
        self._skipped = skipped
        self._nothing = nothing
        self._read = read

    def __missing__(self, token: int) -> _Piece:
        text = None if token in self._skipped else self._find(token)
        piece = self[token] = self._nothing if text is None else self._read(text)
        return piece


def _starter(tokenizer: Tokenizer, skipped: frozenset[int]) -> Callable[[], Detokenizer]:
    steps = _steps(tokenizer)
    if [step["type"] for step in steps] == ["ByteLevel"]:
        codes = _byte_codes()
        as_bytes = _Table(tokenizer, skipped, b"", lambda text: _bytes_of(text, codes))
        return lambda: ByteDetokenizer(as_bytes)
    recipe = _recipe(steps)
    if recipe is None:
        return lambda: WindowDetokenizer(
            lambda tokens: tokenizer.decode(
                [token for token in tokens if token not in skipped], skip_special_tokens=False
            )
        )
    pieces: _Table[str | int | None] = _Table(tokenizer, skipped, None, recipe.piece)
    first_pieces = _Table(tokenizer, skipped, None, recipe.first_piece) if recipe.first_loses else pieces
    return lambda: PieceDetokenizer(pieces, first_pieces, recipe.num_stripped)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How the text of a token is read from its name, as SentencePiece's are.

    Args:
        replaced: what is put in the place of what, one after another.
        has_bytes: whether names such as <0x0A> are bytes.
        num_stripped: spaces that the whole text loses at its start.
        first_loses: what the first token loses wherever it has it.
    """

    replaced: tuple[tuple[str, str], ...] = ()
    has_bytes: bool = False
    num_stripped: int = 0
    first_loses: str = ""

    def piece(self, name: str) -> str | int:
        """Give the text of a token, or its byte."""
        for old, new in self.replaced:
            name = name.replace(old, new)
        if self.has_bytes and len(name) == _BYTE_TOKEN and name.startswith("<0x") and name.endswith(">"):
            try:
                return int(name[3:5], 16)
            except ValueError:
                return name
        return name

    def first_piece(self, name: str) -> str | int:
        """Give the text of a token that is the first, or its byte."""
        return self.piece(name.replace(self.first_loses, ""))


def _steps(tokenizer: Tokenizer) -> list[_Decoder]:
    """Give the decoders that a tokenizer applies one after another."""
    if tokenizer.decoder is None:
        return []
    decoder: _Decoder = json.loads(tokenizer.decoder.__getstate__())
    steps: list[_Decoder] = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return steps


def _recipe(steps: list[_Decoder]) -> _Recipe | None:
    """Read decoders as a recipe; None where they do something else."""
    kinds = [step["type"] for step in steps]
    if kinds == ["Metaspace"]:
        mark = str(steps[0]["replacement"])
        loses = steps[0].get("prepend_scheme", "always") != "never"
        return _Recipe(((mark, " "),), first_loses=mark if loses else "")
    num_replaces = next((place for place, kind in enumerate(kinds) if kind != "Replace"), len(kinds))
    if kinds[num_replaces:] not in (["ByteFallback"], ["ByteFallback", "Fuse"], ["ByteFallback", "Fuse", "Strip"]):
        return None
    strip: _Decoder = steps[-1] if kinds[-1] == "Strip" else {"content": " ", "start": 0, "stop": 0}
    patterns = [step["pattern"].get("String") for step in steps[:num_replaces]]
    if None in patterns or strip["content"] != " " or strip["stop"]:
        return None
    contents = [step["content"] for step in steps[:num_replaces]]
    return _Recipe(tuple(zip(patterns, contents, strict=True)), has_bytes=True, num_stripped=strip["start"])


def _byte_codes() -> dict[str, int]:
    """The byte of each printable character that stands for one: itself where it is visible, else the next from 256."""
    visible = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _bytes_of(name: str, codes: dict[str, int]) -> bytes:
    try:
        return bytes([codes[character] for character in name])
    except KeyError:
        return name.encode()  # a token that was added as plain text
