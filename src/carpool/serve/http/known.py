"""Heads of requests that came before: a client that keeps its connection open sends the same one over and over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from carpool.serve.http.exchange import Head
from carpool.serve.http.routing import Route

if TYPE_CHECKING:
    from collections.abc import Collection

MOST_HEAD_BYTES = 2048
_MOST = 1024
_UNUSUAL = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"})


class KnownHead(msgspec.Struct, frozen=True):
    """What follows from the bytes of a head alone, whichever connection brings them.

    Args:
        route: who answers.
        head: what it says.
        tenant: whose the request is; who sends the same bytes has the same key.
        num_body_bytes: how many bytes of body follow.
    """

    route: Route
    head: Head
    tenant: str
    num_body_bytes: int


class KnownHeads:
    """Keeps heads whose requests were let in, by their bytes.

    Routes, keys and limits are a server's for as long as it lives, so that what was found once stays true.

    Args:
        most: heads; when there are more, somebody sends ever new ones, and all are forgotten.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._heads: dict[bytes, KnownHead] = {}
        self.find = self._heads.get  # asked once a request

    def __len__(self) -> int:
        return len(self._heads)

    def add(self, raw: bytes, known: KnownHead) -> None:
        """Keep a head.

        Args:
            raw: from the first byte of the request line to the empty line.
            known: what follows from that.
        """
        if len(self._heads) >= self._most:
            self._heads.clear()
        if self._most:
            self._heads[raw] = known


def is_plain(method: str, names: Collection[bytes]) -> bool:
    """Tell whether all that a request needs is its route and a body of a known length.

    Args:
        method: in capitals.
        names: of its headers, in lower case.
    """
    return method != "CONNECT" and _UNUSUAL.isdisjoint(names)
