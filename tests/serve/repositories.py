"""Model repositories to serve in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.serve.offer import Offer
from carpool.serve.repository import Repository

if TYPE_CHECKING:
    from pathlib import Path

# Multiplies every number of a row; how long a source is tells two of them apart where clocks are coarse.
MULTIPLIER = """
class Model:
    examples = [[1.0, 2.0]]
    def load(self):
        {load}
    def __call__(self, batch):
        return [[{factor} * x for x in row] for row in batch]
"""


def write_model(directory: Path, factor: float, *, load: str = "pass") -> None:
    """Write a model that multiplies by a factor, as `model.py`."""
    directory.mkdir(parents=True, exist_ok=True)
    text = MULTIPLIER.format(factor=factor, load=load)
    file = directory / "model.py"
    extra = 1 + (len(file.read_text()) if file.exists() else 0)
    file.write_text(text + "#" * max(0, extra - len(text)) + "\n")


def write_entry(repository: Path, name: str, toml: str = "", *, factor: float = 2) -> Path:
    """Write a model of one version, with its carpool.toml; return its directory."""
    directory = repository / name
    write_model(directory, factor)
    (directory / "carpool.toml").write_text(f'[model]\ntarget = "model.py:Model"\n{toml}')
    return directory


def repository_of(directory: Path, **flags: object) -> Repository:
    """Return a repository, with settings of a command line."""
    return Repository(directory, flags={key.replace("__", "."): value for key, value in flags.items()}, environ={})


def offer_of(directory: Path, **flags: object) -> Offer:
    """Offer a repository, not yet started."""
    return Offer(repository_of(directory, **flags), drain_timeout_s=10.0)
