"""A file has the modules beside it to itself, as they are now."""

import pickle
import sys
from pathlib import Path

import pytest

from carpool.errors import ModelError, TargetError
from carpool.models.target import load_target
from tests.runtime.test_process_workers import outcomes_of

TOP = "from weights import K\ndef scaled(rows):\n    return [K * row for row in rows]\n"
LATE = "def scaled(rows):\n    from weights import K\n    return [K * row for row in rows]\n"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def written(directory: Path, **files: str) -> Path:
    """Write modules, and return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    return directory


def results(directory: Path, name: str = "scaled") -> list[object]:
    """What a model makes of 1."""
    model = load_target(f"{directory}/model.py:{name}")
    model.load()
    return list(model.run([1]))


@pytest.mark.parametrize("source", [TOP, LATE])
def test_two_files_may_each_have_a_helper_of_one_name(tmp_path: Path, source: str) -> None:
    """Whether they import it at the top or when they are called, in whatever order."""
    models = [
        load_target(f"{written(tmp_path / str(k), model=source, weights=f'K = {k}')}/model.py:scaled") for k in (1, 2)
    ]
    for model in reversed(models):
        model.load()
    assert [list(model.run([1])) for model in models] == [[1], [2]]
    assert "weights" not in sys.modules


@pytest.mark.parametrize("source", [TOP, LATE])
def test_an_edited_helper_is_read_again(tmp_path: Path, source: str) -> None:
    """Even one of the same second and length; the model that was loaded before keeps what it has imported."""
    directory = written(tmp_path, model=source, weights="K = 1")
    first = load_target(f"{directory}/model.py:scaled")
    first.load()
    assert first.run([1]) == [1]
    written(tmp_path, weights="K = 2")
    assert results(directory) == [2]
    assert first.run([1]) == [1]


def test_a_load_that_fails_leaves_the_one_before(tmp_path: Path) -> None:
    """What that has not imported yet comes from the files all the same."""
    directory = written(tmp_path, model=LATE, weights="K = 1")
    first = load_target(f"{directory}/model.py:scaled")
    first.load()
    written(tmp_path, model="raise ValueError('no')")
    with pytest.raises(TargetError, match="ValueError: no"):
        results(directory)
    assert first.run([1]) == [1]


def test_packages_and_directories_beside_a_file_are_its_own(tmp_path: Path) -> None:
    """With their relative imports and submodules; a helper may import the file back."""
    for k in (1, 2):
        directory = written(
            tmp_path / str(k),
            model="import kit.part, plain.leaf as leaf\nfrom kit import other\nB = 10\nimport back\n"
            "def scaled(rows):\n    return [kit.part.K, leaf.L, other.K, back.answer()]\n",
            back="import model\ndef answer():\n    return model.B\n",
        )
        written(directory / "kit", __init__="", part="from .other import K", other=f"K = {k}")
        written(directory / "plain", leaf=f"L = {k}")
        assert results(directory) == [k, k, k, 10]


def test_a_file_that_imports_its_own_name_means_the_library(tmp_path: Path) -> None:
    """And hides it from nobody."""
    (tmp_path / "json.py").write_text(
        "from json import dumps\ndef texts(rows):\n    return [dumps(row) for row in rows]\n"
    )
    model = load_target(f"{tmp_path}/json.py:texts")
    model.load()
    assert model.run([{}]) == ["{}"]


def test_what_a_helper_lacks_is_blamed_on_the_line_that_imports_it(tmp_path: Path) -> None:
    """Also when it is imported by a function."""
    directory = written(
        tmp_path,
        model="class Late:\n    def load(self):\n        import nowhere_at_all\n    def __call__(self, rows): ...\n",
    )
    with pytest.raises(ModelError, match=r"model.py, line 3: import nowhere_at_all"):
        results(directory, "Late")


def test_classes_of_helpers_are_pickled(tmp_path: Path) -> None:
    """By name, as dataclasses and type hints look their module up."""
    directory = written(
        tmp_path,
        model="from shapes import Point\ndef scaled(rows):\n    return [Point(row) for row in rows]\n",
        shapes="from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n"
        "@dataclass\nclass Point:\n    size: ClassVar[int] = 1\n    x: int = 0\n",
    )
    point = results(directory)[0]
    assert pickle.loads(pickle.dumps(point)) == point  # noqa: S301 - our own
    (sent,) = outcomes_of(f"{directory}/model.py:scaled", [1])
    assert repr(sent) == repr(point)


@pytest.mark.parametrize("source", [TOP, LATE])
def test_a_workers_process_has_the_helpers_of_its_own_file(tmp_path: Path, source: str) -> None:
    """Whatever else the server has loaded before."""
    for k in (1, 2):
        directory = written(tmp_path / str(k), model=source, weights=f"K = {k}")
        assert outcomes_of(f"{directory}/model.py:scaled", [1]) == [k]
