"""Models for workers that are processes; imported there, so they need nothing heavy."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from carpool.errors import CarpoolError

POISON = 13


def double(numbers: list[int]) -> list[int]:
    """Twice each."""
    return [2 * number for number in numbers]


def echo(items: list[Any]) -> list[Any]:
    """Each as it is."""
    return items


def pid(items: list[Any]) -> list[int]:
    """The process that runs it."""
    return [os.getpid()] * len(items)


def crashing(numbers: list[int]) -> list[int]:
    """Reads where there is nothing, when 13 is among the numbers."""
    if POISON in numbers:
        ctypes.string_at(0)
    return double(numbers)


def leaving(numbers: list[int]) -> list[int]:
    """Leaves the process without a word, when 13 is among the numbers."""
    if POISON in numbers:
        os._exit(7)
    return double(numbers)


def exiting(numbers: list[int]) -> list[int]:
    """Calls `sys.exit`, when 13 is among the numbers."""
    if POISON in numbers:
        sys.exit("no more")
    return double(numbers)


def always_dying(numbers: list[int]) -> NoReturn:
    """Never survives a batch."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(numbers)


def hanging(numbers: list[int]) -> list[int]:
    """Does not return, when 13 is among the numbers."""
    while POISON in numbers:
        time.sleep(60)
    return double(numbers)


def printing(numbers: list[int]) -> list[int]:
    """Prints, in Python and below it."""
    print("a line of the model")  # noqa: T201 - what it is for
    os.write(1, b"bytes of the model\n")
    return double(numbers)


def forking(numbers: list[int]) -> list[int]:
    """Makes a copy of its process, and lets it go on as well."""
    os.fork()
    return double(numbers)


class SlowDouble:
    """Doubles, and says by a file that it has begun; waits until the file `go` is there."""

    def __call__(self, paths: list[str]) -> list[str]:
        """Note who runs it, wait, and answer each."""
        for path in paths:
            with Path(path).with_suffix(".began").open("a") as file:
                file.write(f"{os.getpid()}\n")
        while not all(Path(path).exists() for path in paths):
            time.sleep(0.002)
        return [path.upper() for path in paths]


class Unloadable:
    """Dies while it loads."""

    def load(self) -> None:
        """Die."""
        os._exit(9)

    def __call__(self, items: list[Any]) -> list[Any]:
        """Never reached."""
        return items


class Refusing:
    """Can't be loaded, and says why."""

    def load(self) -> None:
        """Fail."""
        raise FileNotFoundError("weights.bin")

    def __call__(self, items: list[Any]) -> list[Any]:
        """Never reached."""
        return items


class Leaky:
    """Keeps 32 MB more with every batch."""

    def __init__(self) -> None:
        self.kept: list[bytes] = []

    def __call__(self, items: list[Any]) -> list[int]:
        """Leak, and say which process does."""
        self.kept.append(b"x" * 32_000_000)
        return [os.getpid()] * len(items)


class OnceThenDead:
    """Loads once in all; every process after the first one dies while it loads."""

    path = ""

    def __init__(self) -> None:
        self.path = os.environ["CARPOOL_TEST_MARK"]

    def load(self) -> None:
        """Die, unless it is the first."""
        if Path(self.path).exists():
            os._exit(5)
        Path(self.path).touch()

    def __call__(self, numbers: list[int]) -> list[int]:
        """Die as well, at 13."""
        return leaving(numbers)


class TwoPartError(CarpoolError):
    """Its constructor takes what its `args` do not hold, so that it can't be unpickled."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")


def raising_odd(numbers: list[int]) -> list[int]:
    """Raises an error that can't be sent, when 13 is among the numbers."""
    if POISON in numbers:
        raise TwoPartError("a leak", "the roof")
    return double(numbers)


def unsendable(numbers: list[int]) -> list[Any]:
    """Answers 13 with what can't be pickled."""
    return [(lambda: None) if number == POISON else 2 * number for number in numbers]


class OnDevice:
    """Says which process it runs in; refuses odd numbers where they are admitted."""

    def __init__(self) -> None:
        self.is_loaded = False

    def load(self) -> None:
        """Take note."""
        self.is_loaded = True

    def check(self, number: int) -> None:
        """Refuse odd numbers."""
        if number % 2:
            raise ValueError("odd")

    def __call__(self, numbers: list[int]) -> list[tuple[int, bool]]:
        """Tell the process, and whether `load` was called there."""
        return [(os.getpid(), self.is_loaded) for _ in numbers]


def loaded(items: list[Any]) -> list[list[str]]:
    """The modules that its process has loaded."""
    return [sorted(sys.modules) for _ in items]


class Sleeper:
    """Never done with loading."""

    def load(self) -> None:
        """Sleep."""
        while True:
            time.sleep(60)

    def __call__(self, items: list[Any]) -> list[Any]:
        """Never reached."""
        return items
