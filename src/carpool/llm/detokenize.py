"""Turn tokens into text one by one, into the very text that they have together.

Half of a character is never given: tokens that hold bytes wait until their bytes are whole.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES_HELD = 64
_NUM_BEFORE, _MOST_TOKENS_HELD = 5, 8


class Detokenizer(Protocol):
    """Gives the text of one sequence as its tokens come."""

    def push(self, token: int) -> str:
        """Take a token; give the text that is whole by now and was not given before."""
        ...

    def flush(self) -> str:
        """Give what is left, with a replacement character for what never became whole: no token comes any more."""
        ...

    def forget(self) -> None:
        """Begin the text here: whole characters so far are of the prompt, and half of one becomes whole in the text."""
        ...


class ByteDetokenizer:
    """For tokens that are bytes, as those of byte-level BPE.

    Args:
        pieces: the bytes of each token; none for those to be left out.
    """

    def __init__(self, pieces: Mapping[int, bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Take a token; give what is whole."""
        return self._decoder.decode(self._pieces[token])

    def flush(self) -> str:
        """Give what is left."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text

    def forget(self) -> None:
        """Begin here: what was whole has been given already."""


class PieceDetokenizer:
    """For tokens that are texts, and some of them single bytes, as those of SentencePiece.

    A run of bytes that is no UTF-8 gives a replacement character for each of them, which its end decides: so a run is
    held until it ends, or until it is longer than 64 bytes.

    Args:
        pieces: the text of each token, or its byte; None for those to be left out.
        first_pieces: the same for a token that is the text's first.
        num_stripped: spaces that the text loses at its start.
    """

    def __init__(
        self,
        pieces: Mapping[int, str | int | None],
        first_pieces: Mapping[int, str | int | None],
        num_stripped: int = 0,
    ) -> None:
        self._pieces = first_pieces
        self._later_pieces = pieces
        self._num_stripped = num_stripped
        self._run = bytearray()
        self._run_is_broken = False

    def push(self, token: int) -> str:
        """Take a token; give what is whole."""
        piece = self._pieces[token]
        if piece is None:  # so that the next may still be the first, and a run of bytes goes on
            return ""
        self._pieces = self._later_pieces
        return self._stripped(self._take_byte(piece) if isinstance(piece, int) else self._end_run() + piece)

    def flush(self) -> str:
        """Give what is left."""
        return self._stripped(self._end_run())

    def forget(self) -> None:
        """Begin here: of a run of bytes, what is not whole stays."""
        try:
            _, used = codecs.utf_8_decode(self._run, "strict", False)  # noqa: FBT003 - it takes no keywords
        except UnicodeDecodeError:
            used = len(self._run)
        del self._run[:used]
        self._run_is_broken = False

    def _take_byte(self, byte: int) -> str:
        if self._run_is_broken:
            return _UNKNOWN
        self._run.append(byte)
        try:
            text, used = codecs.utf_8_decode(self._run, "strict", False)  # noqa: FBT003
        except UnicodeDecodeError:
            broken = self._end_run()
            self._run_is_broken = True
            return broken
        if len(self._run) <= _MOST_BYTES_HELD:
            return ""
        del self._run[:used]
        return text

    def _end_run(self) -> str:
        run = bytes(self._run)
        self._run.clear()
        self._run_is_broken = False
        try:
            return run.decode()
        except UnicodeDecodeError:
            return _UNKNOWN * len(run)

    def _stripped(self, text: str) -> str:
        while text and self._num_stripped:
            if not text.startswith(" "):
                self._num_stripped = 0
                break
            text = text[1:]
            self._num_stripped -= 1
        return text


class WindowDetokenizer:
    """For any other tokens: decodes a few tokens anew each time, and gives what the last one added.

    Args:
        decode: gives the text of some tokens.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._given = ""  # the text of the tokens but those that are held
        self._num_held = 0

    def push(self, token: int) -> str:
        """Take a token; give what is whole."""
        self._tokens.append(token)
        self._num_held += 1
        text = self._decode(self._tokens)
        if text.endswith(_UNKNOWN) and self._num_held < _MOST_TOKENS_HELD:
            return ""
        return self._give(text)

    def flush(self) -> str:
        """Give what is left."""
        return self._give(self._decode(self._tokens))

    def forget(self) -> None:
        """Begin here: what was whole has been given already."""

    def _give(self, text: str) -> str:
        new = text.removeprefix(self._given)
        self._num_held = 0
        del self._tokens[:-_NUM_BEFORE]
        self._given = self._decode(self._tokens)
        return new
