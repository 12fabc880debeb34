"""Who may change, over the network, what is served: models that are loaded and taken out, and policies."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from carpool.serve.faults import FORBIDDEN, Fault, bad_request
from carpool.serve.oip import decode_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.access import Access

_MAY_BE_TOLD = ("policy", "objective", "tenants")
_OWN_SITE = frozenset({b"", b"same-origin", b"none"})  # what `Sec-Fetch-Site` says where no other site asks
_decode_config = msgspec.json.Decoder(dict[str, Any]).decode


class Control:
    """Says who may change what is served: nobody, unless the operator has asked for it.

    Args:
        access: lets callers in, and knows the keys that are marked for it; None lets nobody change anything.

    >>> Control().check({})
    Traceback (most recent call last):
    carpool.serve.faults.Fault: models and policies can't be changed over the network here: start the server with \
--control, or set `control = true` in [server]
    """

    def __init__(self, access: Access | None = None) -> None:
        self._access = access

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Let a request pass that would change something.

        Args:
            headers: of a caller who has been let in, by their names in lower case.

        Raises:
            Fault: control is off (403), the key is not one for it, or a web page of elsewhere asks.
        """
        if self._access is None:
            raise Fault(
                FORBIDDEN,
                "models and policies can't be changed over the network here: start the server with --control, or set "
                "`control = true` in [server]",
                code="control_is_off",
            )
        _refuse_other_sites(headers, is_open=self._access.is_open)
        if not self._access.may_control(headers):
            raise Fault(
                FORBIDDEN,
                "the API key is not one that may change models and policies: mark its line in the keys' file, as in "
                "`KEY TENANT control`",
                code="key_without_control",
            )


def _refuse_other_sites(headers: Mapping[bytes, bytes], *, is_open: bool) -> None:
    """Refuse what a browser sends in the name of a page that is not this server's own.

    Where there are no keys, a name that leads here may be anybody's: a page can have its own name lead to this machine.
    """
    site = headers.get(b"sec-fetch-site", b"")
    origin = headers.get(b"origin")
    host = headers.get(b"host", b"").decode("latin-1").lower()
    is_strange = site not in _OWN_SITE
    if origin is not None:
        at = _host_of(origin.decode("latin-1"))
        is_strange = is_strange or not at or at != host or (is_open and not _is_address(host))
    if is_strange:
        shown = (origin or site).decode("latin-1")[:100]
        raise Fault(
            FORBIDDEN,
            f"a web page of {shown!r} asks for a change, which no page of another site may: use a client that is no "
            "browser, or a page at this server's own address",
            code="other_origin",
        )


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    """Tell whether a host is an address or this machine, which nobody else can let a name of theirs stand for."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def read_config(text: str) -> dict[str, Any] | None:
    """Read the settings that a load over the network brings: a carpool.toml as JSON, of policies alone.

    What is run, where, and from which files is the operator's to say, in files of theirs.

    Args:
        text: as it came.

    Returns:
        Tables by name; None where nothing is told.

    Raises:
        Fault: it is not JSON, or tells what only files may.

    >>> read_config('{"policy": {"max_batch_size": 8}}')
    {'policy': {'max_batch_size': 8}}
    """
    config: dict[str, Any] = decode_json(_decode_config, text.encode())
    for name, table in config.items():
        if name not in _MAY_BE_TOLD:
            key = f"{name}.{next(iter(table))}" if isinstance(table, dict) and table else name
            raise bad_request(
                f"the config of a load tells {key[:100]!r}, which only the operator's files may tell: over the network "
                f"it may have {', '.join(f'[{one}]' for one in _MAY_BE_TOLD)}"
            )
    return config or None
