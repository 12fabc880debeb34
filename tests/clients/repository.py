"""A repository of the models that other people's clients are tried with."""

from __future__ import annotations

from pathlib import Path

MODELS = Path(__file__).with_name("models.py")


def write_repository(directory: Path) -> Path:
    """Write what tells ``carpool serve`` of four models, and give where."""
    for name, target in (("pair", "Pair"), ("embed", "embed"), ("upper", "upper"), ("slow", "Slow")):
        (directory / name).mkdir()
        told = f'[model]\ntarget = "{MODELS.as_posix()}:{target}"\n\n[policy]\nmax_batch_size = 8\n'
        (directory / name / "carpool.toml").write_text(told, encoding="utf-8")
    return directory
