"""Encrypted connections: a certificate and its key, checked before anything is served."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def load_tls(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Return what encrypts connections, TLS 1.2 and later.

    Args:
        certificate: PEM, the server's own first and then those that vouch for it.
        key: PEM, without a passphrase; None where it stands in the certificate's file.

    Raises:
        ConfigError: a file can't be read, is no PEM, or the key is not the certificate's.
    """
    for what, path in (("certificate", certificate), ("key", key)):
        if path is not None:
            _check_readable(what, path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except ssl.SSLError as error:
        found = error.reason or "no certificate in PEM"
        names = f"{certificate}" + (f" and {key}" if key is not None else "")
        remedy = "give a certificate and its own key, both in PEM and the key without a passphrase"
        raise ConfigError(f"the certificate can't be used, from {names} ({found}): {remedy}") from None
    except ValueError:
        raise ConfigError(f"the key in {key or certificate} has a passphrase: give it without one") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_readable(what: str, path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ConfigError(f"the {what} can't be read from {path} ({error.strerror}): name a file that can be") from None


def _no_passphrase() -> str:
    raise ValueError("a passphrase is wanted")
