"""How a setup is named, sent and made, and what is said where that fails."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from carpool.errors import CarpoolError, ConfigError, OutOfMemory, TargetError
from carpool.train import TrainSetup
from carpool.train.autosize.ran_out import ran_out_of_memory
from carpool.train.autosize.source import load_setup, source_of
from tests.train.autosize import setups

SETUPS = Path(__file__).with_name("setups.py")
FILE = """
import torch
from carpool.errors import ConfigError

def setup():
    return 7

def raises():
    return {}["data"]

def leaves():
    raise SystemExit(3)

def refuses():
    raise ConfigError("the data are not there: download them")

def greedy():
    return torch.zeros(1 << 58)

number = 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of setups that are none."""
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def test_a_setup_is_made_by_its_name() -> None:
    """The file is run, and the function called."""
    assert load_setup(f"{SETUPS}:wide").num_items == 5000


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("setup", ConfigError, r"setup\(\) returned an int: it must return a carpool.train.TrainSetup"),
        ("number", ConfigError, "number is an int: it must be a function without arguments"),
        ("raises", ConfigError, r"raises\(\) failed: KeyError: 'data' \(.*mine.py, line 9"),
        ("leaves", ConfigError, r"leaves\(\) failed: SystemExit: 3"),
        ("refuses", ConfigError, "^the data are not there: download them$"),
        ("greedy", OutOfMemory, r"greedy\(\) ran out of memory: RuntimeError: .*DefaultCPUAllocator"),
        ("setpu", TargetError, r"there is no 'setpu' in .*\(did you mean 'setup'\?\)"),
    ],
)
def test_what_is_no_setup_is_said_to_be_none(file: Path, name: str, error: type[CarpoolError], said: str) -> None:
    """Each way of failing names the target and what it must be."""
    with pytest.raises(error, match=said):
        load_setup(f"{file}:{name}")


def test_a_target_without_a_name_is_told_which_there_is(file: Path) -> None:
    """A file alone, a file that is not there, and what is no file."""
    with pytest.raises(TargetError, match=r"mine.py is a file; add the name of the function .*, as in .*mine.py:setup"):
        load_setup(str(file))
    with pytest.raises(TargetError, match=r"there is no file .*mine2.py"):
        load_setup(str(file.with_name("mine2.py")))
    with pytest.raises(TargetError, match=r"'gpt' names no training setup: write file.py:setup or"):
        load_setup("gpt")


def test_a_function_is_sent_by_pickle_and_made_elsewhere() -> None:
    """What another process can import goes by its name, with the arguments that belong to it."""
    source = source_of(functools.partial(setups.small, setups.loss))
    assert source.pickled
    assert load_setup(source).num_items == 5000


def test_a_function_of_a_file_run_by_name_is_sent_by_that_name(tmp_path: Path) -> None:
    """The module of such a file has a name that no other process could import."""
    from carpool.models.lookup import object_in_file

    path = tmp_path / "own.py"
    path.write_text(SETUPS.read_text())
    assert source_of(object_in_file(path, "wide", "own.py:wide")).target == f"{path}:wide"


def test_what_cannot_be_sent_is_told_how_it_could() -> None:
    """A lambda has no name by which another process would find it."""
    with pytest.raises(ConfigError, match=r"can't be sent to another process .*: make the setup in a function"):
        source_of(lambda: 7)


def test_a_setup_itself_needs_no_making() -> None:
    """On an accelerator the live setup is tried."""
    setup = setups.wide()
    assert load_setup(setup) is setup
    assert isinstance(setup, TrainSetup)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("not enough memory of things past"), False),
        (OSError(2, "No such file"), False),
    ],
)
def test_errors_for_want_of_memory_are_told_from_others(error: Exception, *, is_memory: bool) -> None:
    """By their type where they have one, by their text where it is all there is, and by what they were raised from."""
    assert ran_out_of_memory(error) is is_memory
    outer = ValueError("no batch")
    outer.__cause__ = error
    assert ran_out_of_memory(outer) is is_memory
