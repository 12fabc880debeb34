"""Writes a file so that a reader, or a crash, finds either the old one whole or the new one whole."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def write_bytes(path: Path, data: bytes) -> None:
    """Write a temporary file beside `path`, flush it to the disk, and rename it over `path`.

    Args:
        path: Where to; missing directories are made, and a link's target is what is replaced.
        data: The whole content.

    Raises:
        ConfigError: It cannot be written there; what was there before is untouched.
    """
    path = path.resolve()
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_directory(path.parent)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}; choose a place that can be written"
        ) from None


def _flush_directory(directory: Path) -> None:
    """Make the new name itself last; Windows neither allows nor needs it."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
