"""Find a name in a Python file or module, and say what is there when it is not."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from carpool.errors import TargetError
from carpool.models.blame import describe
from carpool.models.siblings import run_file

MOST_LISTED = 12
# A name may have one slip for every so many of its letters, and be taken for another all the same.
LETTERS_A_SLIP = 4


def object_in_file(path: Path, name: str, target: str) -> Any:
    """Run a Python file and take a name from it.

    What it imports from beside it is its own, and run anew (`run_file`). For what imports by other means, such as
    pickle, the file's directory comes last on the import path.

    Args:
        path: the file.
        name: a name in it, with dots for attributes.
        target: the whole TARGET, for messages.

    Raises:
        TargetError: there is no such file or name, or the file raised when run.
    """
    if not path.is_file():
        raise TargetError(f"{target}: there is no file {path}; {files_nearby(path)}")
    resolved = path.resolve()
    _put_last_on_path(str(resolved.parent))
    try:
        module = run_file(resolved)
    except (Exception, SystemExit) as error:
        raise TargetError(f"{target}: running {path} failed: {describe(error, resolved)}{_remedy(error)}") from error
    return _named(module, name, target, where=str(path))


def object_in_module(module_name: str, name: str, target: str) -> Any:
    """Import a module and take a name from it; the working directory is on the import path.

    Args:
        module_name: such as ``package.module``.
        name: a name in it, with dots for attributes.
        target: the whole TARGET, for messages.

    Raises:
        TargetError: there is no such module or name, or the module raised when imported.
    """
    _put_on_path(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise TargetError(_import_failed(module_name, target, error)) from error
        where = f"looked in {Path.cwd()} and the installed packages of {sys.prefix}"
        raise TargetError(
            f"{target}: there is no module {error.name!r}; {where}; for a file write path/to/file.py:name"
        ) from error
    except (Exception, SystemExit) as error:
        raise TargetError(_import_failed(module_name, target, error)) from error
    return _named(module, name, target, where=f"module {module_name}")


def _import_failed(module_name: str, target: str, error: BaseException) -> str:
    try:
        spec = importlib.util.find_spec(module_name)
    except Exception:  # noqa: BLE001 - it is a parent package that raised
        spec = None
    return f"{target}: importing {module_name} failed: {describe(error, spec.origin if spec else None)}{_remedy(error)}"


def names_in_source(path: Path) -> list[str]:
    """The functions and classes that a Python file defines at its top, found without running it.

    Args:
        path: the file; one that can't be parsed has none.
    """
    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return []
    defined = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return [node.name for node in body if isinstance(node, defined) and not node.name.startswith("_")]


def files_nearby(path: Path) -> str:
    """Say what the nearest directory that exists holds, with the closest name first.

    Args:
        path: what was looked for.
    """
    parent = next(directory for directory in (path.parent, *path.absolute().parents) if directory.is_dir())
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in parent.iterdir() if not entry.name.startswith("."))
    useful = [name for name in entries if name.endswith((".py", ".onnx", ".gguf", "/"))]
    # By their names alone: that both end in .py brings no two files closer.
    close = closest(path.stem, [Path(name).stem for name in useful])
    near = next((name for name in useful if Path(name).stem == close), "")
    return f"{parent.absolute()} has {_listed(useful, near) or 'no Python file, model or directory'}"


def closest(name: str, names: Iterable[str]) -> str:
    """The name that another may have been meant for, but for one slip, or one for every four letters; else empty.

    Args:
        name: what was written.
        names: what there is.

    >>> closest("modle", ["model", "images"]), closest("nofile", ["profile", "file"])
    ('model', '')
    """
    slips = {other: _num_slips(name, other) for other in names}
    near = min(slips, key=lambda other: slips[other], default="")
    return near if near and slips[near] <= max(1, len(name) // LETTERS_A_SLIP) else ""


def _num_slips(one: str, other: str) -> int:
    """How many letters were left out, added, changed or swapped with their neighbour between two names.

    Source: optimal string alignment, the restricted form of Damerau, CACM 7(3), 1964.
    """
    above: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        further, above, row = above, row, [i]
        for j, theirs in enumerate(other, start=1):
            slips = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (letter != theirs))
            if i > 1 < j and (letter, one[i - 2]) == (other[j - 2], theirs):
                slips = min(slips, further[j - 2] + 1)
            row.append(slips)
    return row[-1]


def _put_on_path(directory: str) -> None:
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _put_last_on_path(directory: str) -> None:
    if directory not in sys.path:
        sys.path.append(directory)  # so that a user's `json.py` or `images.py` hides no module that others import


def _named(module: ModuleType, name: str, target: str, *, where: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = _callables(module)
            offered = f"it has {_listed(names, closest(name, names))}" if names else "it defines no function or class"
            raise TargetError(f"{target}: there is no {name!r} in {where}; {offered}")
        found = getattr(found, part)
    return found


def _callables(module: ModuleType) -> list[str]:
    """Public names that can be called; those defined here, where there are any, without what was imported."""
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    own = [name for name in names if getattr(vars(module)[name], "__module__", None) == module.__name__]
    return own or names


def _listed(names: list[str], near: str) -> str:
    """Some of the names, the one that was probably meant first."""
    ordered = sorted(names, key=lambda name: name != near)
    more = f" and {len(ordered) - MOST_LISTED} more" if len(ordered) > MOST_LISTED else ""
    hint = f" (did you mean {near!r}?)" if near else ""
    return ", ".join(ordered[:MOST_LISTED]) + more + hint


def _remedy(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "; it left the program when imported: put what a script does under `if __name__ == '__main__':`"
    if isinstance(error, ModuleNotFoundError):
        return f"; install what provides {error.name!r} into {sys.prefix}"
    return ""
