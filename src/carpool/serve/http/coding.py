"""Content codings: bodies that come compressed, bounded when they are inflated, and answers that leave so."""

from __future__ import annotations

import zlib

from carpool.serve.faults import Fault, bad_request
from carpool.serve.http.limits import too_large

UNSUPPORTED = 415
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15
_SWIFTEST = 1
_IDENTITY = frozenset({b"", b"identity"})
_GZIP = frozenset({b"gzip", b"x-gzip"})


def is_coded(coding: bytes) -> bool:
    """Tell whether a Content-Encoding means that the body must be inflated."""
    return coding.strip().lower() not in _IDENTITY


def inflate(body: bytes, coding: bytes, limit_bytes: int) -> bytes:
    """Return a body as it was before it was compressed.

    No more than the limit is ever held, however much it would inflate to.

    Args:
        body: as it came.
        coding: the Content-Encoding.
        limit_bytes: the most that it may inflate to.

    Raises:
        Fault: the coding is another, the body is not of it, or there is more in it than the limit.
    """
    inflating = zlib.decompressobj(_bits(coding.strip().lower(), body))
    try:
        whole = inflating.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise bad_request(f"the body is not {coding.decode('latin-1')[:20]} ({error}): send it as it says") from None
    if len(whole) > limit_bytes:
        raise too_large(limit_bytes)
    if not inflating.eof or inflating.unused_data:
        found = "goes on after its end" if inflating.eof else "is cut short"
        raise bad_request(f"the compressed body {found}: send one whole stream")
    return whole


def _bits(coding: bytes, body: bytes) -> int:
    if coding in _GZIP:
        return _GZIP_BITS
    if coding == b"deflate":  # the standard means zlib's format; some clients send it bare
        is_zlib = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2], "big") % 31 == 0
        return _ZLIB_BITS if is_zlib else _RAW_BITS
    raise Fault(UNSUPPORTED, f"the body's Content-Encoding is {coding.decode('latin-1')[:40]!r}: use gzip or deflate")


def wanted_coding(accept: bytes) -> bytes:
    """Return the coding in which a client would have the answer; empty for none.

    Args:
        accept: its Accept-Encoding.

    >>> wanted_coding(b"br, deflate;q=0.5, gzip"), wanted_coding(b"gzip;q=0"), wanted_coding(b"br")
    (b'gzip', b'', b'')
    """
    accepted = set()
    for part in accept.lower().split(b","):
        name, _, weight = part.partition(b";")
        if weight.replace(b" ", b"") not in {b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"}:
            accepted.add(name.strip())
    return next((coding for coding in (b"gzip", b"deflate") if coding in accepted), b"")


def compress(body: bytes, coding: bytes) -> bytes:
    """Compress an answer, at the least cost.

    Args:
        body: the whole of it.
        coding: `gzip` or `deflate`.
    """
    deflating = zlib.compressobj(_SWIFTEST, zlib.DEFLATED, _GZIP_BITS if coding == b"gzip" else _ZLIB_BITS)
    return deflating.compress(body) + deflating.flush()
