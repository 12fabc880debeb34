"""The head of an answer, in bytes."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carpool.serve.http.exchange import Headers

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
NO_CONTENT, NOT_MODIFIED = 204, 304
NO_BODY = frozenset({NO_CONTENT, NOT_MODIFIED})
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


class Heads:
    """Writes the heads of answers; what they share is written once a second, with the date."""

    def __init__(self) -> None:
        self._starts: dict[tuple[int, bytes], bytes] = {}
        self._date = formatdate(usegmt=True).encode()

    def set_date(self, now: float) -> None:
        """Take the time of day.

        Args:
            now: seconds since 1970.
        """
        date = formatdate(now, usegmt=True).encode()
        if date != self._date:
            self._date = date
            self._starts.clear()

    def plain(self, status: int, content_type: bytes, num_bytes: int) -> bytes:
        """Return the head of a whole answer that has no headers of its own.

        Args:
            status: the HTTP status.
            content_type: of the body.
            num_bytes: of the body.
        """
        start = self._starts.get((status, content_type)) or self._start(status, content_type)
        return b"%bcontent-length: %d\r\n\r\n" % (start, num_bytes)

    def with_headers(self, status: int, content_type: bytes, headers: Headers, num_bytes: int | None) -> bytes:
        """Return the head of an answer.

        Args:
            status: the HTTP status.
            content_type: of the body.
            headers: more headers.
            num_bytes: of the body; None where that is not known yet.
        """
        start = self._starts.get((status, content_type)) or self._start(status, content_type)
        length = b"" if num_bytes is None or has_no_body(status) else b"content-length: %d\r\n" % num_bytes
        more = b"".join([b"%b: %b\r\n" % (name, _on_one_line(value)) for name, value in headers])
        return b"%b%b%b\r\n" % (start, length, more)

    def _start(self, status: int, content_type: bytes) -> bytes:
        phrase = _PHRASES.get(status, b"")
        content = b"" if has_no_body(status) else b"content-type: %b\r\n" % content_type
        start = b"HTTP/1.1 %d %b\r\ndate: %b\r\n%b" % (status, phrase, self._date, content)
        self._starts[status, content_type] = start
        return start


def has_no_body(status: int) -> bool:
    """Tell whether answers of a status never have a body."""
    return status in NO_BODY


def _on_one_line(value: bytes) -> bytes:
    """Keep a header from becoming two, whatever a name or a message holds."""
    return value.replace(b"\r", b" ").replace(b"\n", b" ")
