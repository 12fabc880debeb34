"""What a server bears from its clients."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.serve.faults import TOO_LARGE, Fault
from carpool.units import format_bytes

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a server bears from its clients, before it answers with an error or closes the connection.

    Times are told to within half a second, or a quarter of the shortest of them.

    Args:
        max_body_bytes: the largest body, as sent and as inflated (413).
        max_header_bytes: the largest request line with its headers (431).
        max_headers: the most headers of a request (431).
        max_connections: the most connections at a time (503).
        max_pipelined: requests of one connection that may wait for their turn before no more is read from it.
        header_timeout_s: from the first byte of a request to the end of its headers (408).
        body_timeout_s: from there to the end of its body (408).
        idle_timeout_s: how long a connection without a request stays open.
        write_timeout_s: how long a client may take nothing of an answer that waits for it.
        linger_s: how long the rest of a refused request is read and dropped, so that the client sees the answer.
        compress_from_bytes: answers as large as this are compressed for clients that ask for it; None: none are.
    """

    max_body_bytes: int = 16 * MIB
    max_header_bytes: int = 32 * KIB
    max_headers: int = 100
    max_connections: int = 8192
    max_pipelined: int = 16
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    linger_s: float = 2.0
    compress_from_bytes: int | None = 64 * KIB

    @property
    def tick_s(self) -> float:
        """How often connections are looked over."""
        shortest_s = min(self.header_timeout_s, self.body_timeout_s, self.idle_timeout_s, self.write_timeout_s)
        return min(0.5, max(0.01, shortest_s / 4))


def too_large(limit_bytes: int) -> Fault:
    """Return the fault of a body beyond the limit."""
    return Fault(
        TOO_LARGE,
        f"the body has more than the {format_bytes(limit_bytes)} that are read: send less at once, or allow more with "
        "--max-body",
    )
