"""A server as users run it, for every client to be tried with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.repository import write_repository
from tests.system.server import Running, serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve a repository of four models and a language model over HTTP and gRPC."""
    repository = write_repository(tmp_path_factory.mktemp("repository"))
    with serving(str(repository), "--grpc-port", "0", "--control") as running:
        yield running
