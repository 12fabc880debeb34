"""The public names: each can be had, and none is there by accident."""

from __future__ import annotations

import ast
from importlib import metadata
from pathlib import Path

import pytest

import carpool

PUBLIC_NAMES = {
    "LLM",
    "Batcher",
    "BatcherClosed",
    "CarpoolError",
    "ConfigError",
    "ConnectionFailed",
    "Constraint",
    "DeadlineExceeded",
    "DispatcherDied",
    "InvalidItem",
    "ModelError",
    "ModelHung",
    "OutOfMemory",
    "OutOfRange",
    "Policy",
    "QueueFull",
    "Rejected",
    "SamplingParams",
    "SchemaError",
    "TargetError",
    "WorkerDied",
    "WrongResultCount",
    "__version__",
    "batched",
}


def test_public_names_are_exactly_these() -> None:
    """A name added to or taken from the public interface is a decision: it changes this list and the changelog."""
    assert set(carpool.__all__) == PUBLIC_NAMES
    assert carpool.__all__ == sorted(carpool.__all__, key=lambda name: (not name.isupper(), name))


@pytest.mark.parametrize("name", sorted(PUBLIC_NAMES))
def test_every_public_name_can_be_had(name: str) -> None:
    """Each name is loaded from the module that defines it and is listed by dir()."""
    assert getattr(carpool, name) is not None
    assert name in dir(carpool)


def test_names_for_type_checkers_are_those_loaded_at_run_time() -> None:
    """What a type checker sees imported is what ``__all__`` promises."""
    tree = ast.parse(Path(str(carpool.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported.keys() | {"__version__"} == PUBLIC_NAMES


def test_errors_belong_to_one_tree() -> None:
    """Catching CarpoolError catches every public error."""
    errors = [value for name in PUBLIC_NAMES if isinstance(value := getattr(carpool, name), type)]
    for error in (value for value in errors if issubclass(value, Exception)):
        assert issubclass(error, carpool.CarpoolError)


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    """A slip in a name shows the public names."""
    with pytest.raises(AttributeError, match=r"no attribute 'Bacher'; it offers LLM, Batcher, "):
        _ = carpool.Bacher


def test_the_version_is_the_installed_one() -> None:
    """The version is stated once, and the installation has it from there."""
    assert carpool.__version__ == metadata.version("carpool")
