"""A server as users run it, with the models of this directory, for every client to be tried with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.system.server import Running, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS = Path(__file__).with_name("models.py")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Serve a repository of four models over HTTP and gRPC."""
    repository = tmp_path_factory.mktemp("repository")
    for name, target in (("pair", "Pair"), ("embed", "embed"), ("upper", "upper"), ("slow", "Slow")):
        (repository / name).mkdir()
        told = f'[model]\ntarget = "{MODELS}:{target}"\n\n[policy]\nmax_batch_size = 8\n'
        (repository / name / "carpool.toml").write_text(told, encoding="utf-8")
    with serving(str(repository), "--grpc-port", "0") as running:
        yield running
