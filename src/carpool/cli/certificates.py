"""Whom a command trusts to be the server that it asks."""

from __future__ import annotations

import ssl
from pathlib import Path

import click

from carpool.errors import ConfigError

ca_option = click.option(
    "--ca",
    type=click.Path(path_type=Path),
    help="Certificates in PEM, one of which vouches for the server's.  [default: those that this machine trusts]",
)


def trusting(ca: Path) -> ssl.SSLContext:
    """Trust the certificates of a file.

    Args:
        ca: the file, in PEM.

    Raises:
        ConfigError: it can't be read, or holds none.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        reason = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigError(f"--ca {ca} can't be read ({reason}): name a file of certificates in PEM") from None
