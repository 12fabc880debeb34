"""Whether a profile says anything of a model and a machine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from carpool.profile.machine import Machine
from carpool.profile.validity import machine_differences, same_target

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = Machine(
    device="cuda:0",
    device_name="NVIDIA H100",
    num_cores=16,
    num_threads=8,
    memory_bytes=1 << 37,
    dtype="bfloat16",
    platform="Linux x86_64",
    versions={"carpool": "0.1.0", "python": "3.12.1", "torch": "2.6.0"},
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with two files of one name, a model's directory, and a link."""
    for path in (tmp_path / "models.py", tmp_path / "sub" / "models.py", tmp_path / "encoder" / "config.json"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "link.py").symlink_to("models.py")
    return tmp_path


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("models.py:f", "models.py:f"),
        ("models.py:f", "./models.py:f"),
        ("models.py:f", "sub/../models.py:f"),
        ("models.py:f", "link.py:f"),
        ("encoder", "./encoder/"),
        ("demo:minilm", "demo:minilm"),
        ("package.module:f", "package.module:f"),
    ],
)
def test_one_model_by_two_paths_is_one_target(project: Path, one: str, other: str) -> None:
    """Whichever way round, and by its whole path too."""
    assert same_target(one, other, project)
    assert same_target(other, one, project)


def test_a_whole_path_is_the_file(project: Path) -> None:
    """As a profile that was made elsewhere names it."""
    assert same_target(f"{project}/models.py:f", "models.py:f", project)
    assert same_target(f"{project}/encoder", "encoder", project)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("models.py:f", "models.py:g"),
        ("models.py:f", "sub/models.py:f"),
        ("models.py:f", "other.py:f"),
        ("demo:minilm", "demo:null"),
        ("demo:null", "models.py:null"),
        ("encoder", "sub"),
        ("package.module:f", "package.other:f"),
        ("a.onnx", "b.onnx"),
        ("f", "models.py:f"),
    ],
)
def test_two_models_are_two_targets(project: Path, one: str, other: str) -> None:
    """A file of the same name elsewhere is another one, and so is another name in the same file."""
    assert not same_target(one, other, project)
    assert not same_target(other, one, project)


@pytest.mark.parametrize(
    ("gone", "here"),
    [
        ("/srv/other/models.py:f", "models.py:f"),
        ("/srv/other/sub/models.py:f", "sub/models.py:f"),
        ("deeper/sub/models.py:f", "sub/models.py:f"),
        ("../elsewhere/models.py:f", "models.py:f"),
        ("/data/bert.onnx", "bert.onnx"),
    ],
)
def test_a_file_that_is_not_where_it_was_is_known_by_the_end_of_its_path(project: Path, gone: str, here: str) -> None:
    """A profile from another machine, or from another directory of this one, still fits its model."""
    assert same_target(gone, here, project)
    assert same_target(here, gone, project)
    assert not same_target(gone.replace("models", "others").replace("bert", "gpt"), here, project)


def test_the_same_machine_differs_in_nothing() -> None:
    """Nor does another card of the same name, or what does not change times."""
    assert machine_differences(MACHINE, MACHINE) == ()
    assert machine_differences(replace(MACHINE, device="cuda:1", memory_bytes=1 << 36), MACHINE) == ()


def test_every_difference_is_named_with_both_values() -> None:
    """One line each, in the words of the profile."""
    here = Machine(
        device="cpu",
        device_name="A Processor",
        num_cores=4,
        num_threads=4,
        memory_bytes=1 << 33,
        dtype="float32",
        platform="Darwin arm64",
        versions={"carpool": "0.2.0", "python": "3.12.1", "torch": "2.7.0"},
    )
    assert machine_differences(MACHINE, here) == (
        "device: cuda in the profile, cpu here",
        "device name: NVIDIA H100 in the profile, A Processor here",
        "dtype: bfloat16 in the profile, float32 here",
        "threads: 8 in the profile, 4 here",
        "cores: 16 in the profile, 4 here",
        "platform: Linux x86_64 in the profile, Darwin arm64 here",
        "carpool: 0.1.0 in the profile, 0.2.0 here",
        "torch: 2.6.0 in the profile, 2.7.0 here",
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(MACHINE, dtype=""),
        replace(MACHINE, num_threads=None),
        replace(MACHINE, versions={"carpool": "0.1.0", "python": "3.12.1"}),
        replace(MACHINE, versions={**MACHINE.versions, "onnxruntime": "1.20"}),
    ],
)
def test_what_is_known_of_one_alone_is_no_difference(other: Machine) -> None:
    """A dtype without meaning, threads that nobody knows, a library that the server does not load."""
    assert machine_differences(MACHINE, other) == machine_differences(other, MACHINE) == ()
