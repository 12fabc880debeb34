"""The front of a server, as its settings say: limits, keys and encryption."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.serve.access import Access, read_keys
from carpool.serve.http.limits import Limits

if TYPE_CHECKING:
    from carpool.config.http_keys import HttpSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What stands between clients and models.

    Args:
        limits: what clients may do.
        access: who they must be.
        tls: encrypts the connections; None leaves them plain.
        certificate: what it proves itself by, and its key, in PEM, for others that encrypt by themselves.
    """

    limits: Limits
    access: Access
    tls: ssl.SSLContext | None = None
    certificate: tuple[bytes, bytes] | None = None

    @property
    def scheme(self) -> str:
        """How its URL begins."""
        return "http" if self.tls is None else "https"


def open_front(settings: HttpSettings, *, max_body_bytes: int) -> Front:
    """Read the files that settings name.

    Args:
        settings: of `[http]`.
        max_body_bytes: the largest body.

    Raises:
        ConfigError: a file can't be read, or does not hold what it should.
    """
    limits = Limits(
        max_body_bytes=max_body_bytes,
        max_header_bytes=settings.max_header_bytes,
        max_connections=settings.max_connections,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        write_timeout_s=settings.write_timeout_s,
        compress_from_bytes=settings.compress_from_bytes,
    )
    access = Access(None if settings.api_keys is None else read_keys(settings.api_keys), keyless=settings.keyless)
    if settings.tls_certificate is None:
        if settings.tls_key is not None:
            raise ConfigError(f"http.tls_key is {settings.tls_key}, and there is no http.tls_certificate: give both")
        return Front(limits=limits, access=access)
    from carpool.serve.http.tls import load_tls

    tls = load_tls(settings.tls_certificate, settings.tls_key)
    key = settings.tls_key or settings.tls_certificate
    certificate = settings.tls_certificate.read_bytes(), key.read_bytes()
    return Front(limits=limits, access=access, tls=tls, certificate=certificate)


def warning_of(host: str, front: Front, *, has_control: bool = False) -> str | None:
    """Say what is unsafe about who can reach a server; None where nothing is.

    Args:
        host: where it listens.
        front: what stands before it.
        has_control: whether models and policies may be changed over the network.

    >>> from carpool.serve.access import Access
    >>> open_to_all = Front(limits=Limits(), access=Access())
    >>> warning_of("127.0.0.1", open_to_all), "without an API key" in (warning_of("0.0.0.0", open_to_all) or "")
    (None, True)
    """
    if _is_loopback(host):
        return None
    if front.access.is_open:
        may = "ask, and load, unload and change models (--control)" if has_control else "ask"
        return f"{host} can be reached by others, who need no key: without an API key (--api-keys) anybody may {may}"
    if front.tls is None:
        return (
            f"{host} can be reached by others, and keys travel unencrypted: give a certificate, or stand behind a proxy"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
