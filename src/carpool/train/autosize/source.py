"""How a training setup gets into this process or another one: by its name, by pickle, or as it is."""

from __future__ import annotations

import base64
import inspect
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, ConfigError, OutOfMemory, TargetError
from carpool.models.blame import describe
from carpool.models.lookup import closest, files_nearby, names_in_source, object_in_file, object_in_module
from carpool.train.autosize.ran_out import ran_out_of_memory
from carpool.units import with_article

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.train.setup import TrainSetup

FORMS = "file.py:setup or package.module:setup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How another process gets the same setup.

    Args:
        target: a TARGET to load; empty where an object is sent.
        pickled: the object, pickled and in base64.
    """

    target: str = ""
    pickled: str = ""


def source_of(setup: object) -> Source:
    """Say how another process gets a setup.

    Args:
        setup: a TARGET, a function that makes it, or the setup itself.

    Raises:
        ConfigError: an object can't be pickled; the message names it and the remedy.
    """
    if isinstance(setup, str):
        return Source(target=setup)
    named = _in_file(setup)
    if named:
        return Source(target=named)
    try:
        return Source(pickled=base64.b64encode(pickle.dumps(setup)).decode())
    except Exception as error:
        name = getattr(setup, "__qualname__", type(setup).__name__)
        raise ConfigError(
            f"{name} can't be sent to another process ({type(error).__name__}: {error}), in which training steps are "
            f"tried: make the setup in a function at the top of a file, and give it as {FORMS}"
        ) from error


def _in_file(setup: object) -> str:
    """Name a function of a file that another process could not import under the name it has here; else empty."""
    module_name = getattr(setup, "__module__", None) or ""
    if not inspect.isfunction(setup) or "<" in setup.__qualname__:
        return ""
    if module_name != "__main__" and not module_name.startswith("carpool_target_"):
        return ""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    return f"{file}:{setup.__qualname__}" if file else ""


def load_setup(setup: str | Source | Callable[[], TrainSetup] | TrainSetup) -> TrainSetup:
    """Make the setup that is named, or that a function returns.

    Args:
        setup: a TARGET (`file.py:setup` or `package.module:setup`), a function, a setup that is made already, or what
            another process sent.

    Raises:
        TargetError: the TARGET names nothing, or its file raised when run.
        ConfigError: what it names raised, or returned something else than a `TrainSetup`.
        OutOfMemory: there was not memory enough to make it.
    """
    if isinstance(setup, Source):
        setup = _received(setup)
    if isinstance(setup, str):
        return _called(_named(setup), setup)
    return _called(setup, getattr(setup, "__qualname__", type(setup).__name__))


def _received(source: Source) -> Any:
    if source.target:
        return source.target
    try:
        return pickle.loads(base64.b64decode(source.pickled))  # noqa: S301 - from our own parent
    except Exception as error:
        raise ConfigError(
            f"the setup could not be unpickled in another process ({describe(error)}): give it as {FORMS}"
        ) from error


def _named(target: str) -> Any:
    head, colon, name = target.rpartition(":")
    if not colon or not head or not name:
        raise TargetError(_what_was_meant(target))
    if head.endswith(".py") or "/" in head or "\\" in head:
        return object_in_file(Path(head), name, target)
    return object_in_module(head, name, target)


def _what_was_meant(target: str) -> str:
    path = Path(target.rstrip(":"))
    if path.suffix != ".py":
        return f"{target!r} names no training setup: write {FORMS}"
    if not path.is_file():
        return f"{target}: there is no file {path}; {files_nearby(path)}"
    names = names_in_source(path)
    meant = "setup" if "setup" in names else closest("setup", names) or (names[0] if names else "setup")
    return f"{target} is a file; add the name of the function that returns the setup, as in {path}:{meant}"


def _called(make: Any, name: str) -> TrainSetup:
    from carpool.train.setup import TrainSetup

    if isinstance(make, TrainSetup):
        return make
    if not callable(make):
        raise ConfigError(
            f"{name} is {with_article(type(make).__name__)}: it must be a function without arguments that returns a "
            "carpool.train.TrainSetup"
        )
    made = _made(make, name)
    if not isinstance(made, TrainSetup):
        raise ConfigError(
            f"{name}() returned {with_article(type(made).__name__)}: it must return a carpool.train.TrainSetup"
        )
    return made


def _made(make: Callable[[], Any], name: str) -> Any:
    try:
        return make()
    except (Exception, SystemExit) as error:
        if isinstance(error, CarpoolError):
            raise
        if ran_out_of_memory(error):
            raise OutOfMemory(f"{name}() ran out of memory: {describe(error)}") from error
        raise ConfigError(f"{name}() failed: {describe(error, _file_of(make))}") from error


def _file_of(make: object) -> str | None:
    try:
        return inspect.getsourcefile(inspect.unwrap(make))  # type: ignore[arg-type]
    except TypeError:
        return None
