"""The bytes of single tokens: what the text of a token is, alone or where a character spans several.

A tokenizer's `decode` of one token drops blanks before words and writes replacement characters; what log probabilities
are told of is the token itself.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE_PIECE_LENGTH = 6  # as in <0x0A>


class TokenTexts:
    """Says what single tokens of a tokenizer are.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {token: added.content for token, added in tokenizer.get_added_tokens_decoder().items()}

    def bytes_of(self, token: int) -> bytes:
        """Return a token's bytes; empty for one that the tokenizer does not know.

        Args:
            token: its id.
        """
        special = self._special.get(token)
        if special is not None:
            return special.encode()
        piece = self._tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self._is_byte_level:
            return b"".join(self._bytes_by_letter.get(letter, letter.encode()) for letter in piece)
        if len(piece) == _BYTE_PIECE_LENGTH and piece.startswith("<0x") and piece.endswith(">"):
            return bytes.fromhex(piece[3:5])
        return piece.replace("▁", " ").encode()

    def text_of(self, token: int) -> str:
        r"""Return a token's text; one that is no whole character is told by its bytes, as in `bytes:\xe2\x80`.

        Args:
            token: its id.
        """
        raw = self.bytes_of(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)

    @cached_property
    def _is_byte_level(self) -> bool:
        """Whether each letter of a piece stands for a byte."""
        return "ByteLevel(" in repr(self._tokenizer.decoder)  # alone, or among others in a sequence

    @cached_property
    def _bytes_by_letter(self) -> dict[str, bytes]:
        """Bytes by the letters that stand for them: printable ones stand for themselves, the others from U+0100 on.

        Source: "Language Models are Unsupervised Multitask Learners" (GPT-2), the published encoder's table
        """
        own = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
        others = [byte for byte in range(256) if byte not in set(own)]
        letters = {chr(byte): bytes([byte]) for byte in own}
        return letters | {chr(256 + place): bytes([byte]) for place, byte in enumerate(others)}
