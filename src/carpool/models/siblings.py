"""Run a Python file so that it has the modules beside it to itself, as they are now.

The file and what lies beside it become the members of a package that no other file has, so that two files may each have
a `helper.py`. The files' own `import` statements are what finds them there, at the top or when a function is called:
each module runs with builtins whose `__import__` looks beside the file first. All stay in `sys.modules` under the name
of that package, which is made of the file's path: pickle finds their classes, here and in a worker's process.
"""

import builtins
import importlib
import importlib.util
import sys
import threading
import zlib
from collections.abc import Mapping, Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, ModuleSpec, PathFinder
from importlib.machinery import SourceFileLoader as _SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_PREFIX = "carpool_target_"
_SHARED = frozenset(sys.builtin_module_names) | {"carpool"}
_LOCKS = tuple(threading.RLock() for _ in range(64))  # files share one now and then, and only wait for each other


def run_file(path: Path) -> ModuleType:
    """Run a Python file, and what it imports from beside it, anew; where it raises, what was loaded before stays.

    Args:
        path: the file, resolved.

    Raises:
        Exception: whatever the file raises.
    """
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    siblings = _Siblings(path)
    with siblings.lock:
        before = _taken_out(siblings.package)
        try:
            return siblings.run()
        except BaseException:
            _taken_out(siblings.package)
            sys.modules.update(before)
            raise


def _taken_out(package: str) -> dict[str, ModuleType]:
    names = [name for name in list(sys.modules) if name == package or name.startswith(f"{package}.")]
    return {name: sys.modules.pop(name) for name in names}


class _Siblings:
    """One load of a file: its package, and how its modules import.

    Args:
        path: the file, resolved.
    """

    def __init__(self, path: Path) -> None:
        key = zlib.crc32(str(path).encode())
        self.package = f"{_PREFIX}{key:08x}"
        self.lock = _LOCKS[key % len(_LOCKS)]
        self._path = path
        self._found: dict[tuple[object, ...], ModuleType] = {}
        self._is_beside: dict[str, bool] = {}

    def run(self) -> ModuleType:
        package = ModuleType(self.package)
        package.__path__ = [str(self._path.parent)]
        package.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        sys.modules[self.package] = package
        name = f"{self.package}.{self._path.stem.replace('.', '_')}"
        spec = importlib.util.spec_from_file_location(name, self._path, loader=_Loader(name, str(self._path)))
        assert spec is not None, "it has a loader"
        assert spec.loader is not None, "it has a loader"
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look their module up by name
        spec.loader.exec_module(module)
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - as Python calls it
        locals: Mapping[str, Any] | None = None,  # noqa: A002 - as Python calls it
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what an `import` statement does, with the modules beside the file before all others."""
        if level == 0 and not self._takes(name.partition(".")[0], (globals or {}).get("__name__")):
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        key = (name, tuple(fromlist or ()), level, (globals or {}).get("__package__") if level else None)
        # What this load has once imported is its own, also when the file is loaded anew beside it.
        if key not in self._found:
            with self.lock:
                self._found[key] = self._import_beside(name, globals, fromlist or (), level)
        return self._found[key]

    def _import_beside(
        self, name: str, importer: Mapping[str, Any] | None, fromlist: Sequence[str], level: int
    ) -> ModuleType:
        if level:
            return builtins.__import__(name, importer, None, fromlist, level)
        found = builtins.__import__(f"{self.package}.{name}", None, None, fromlist, 0)
        return found if fromlist else sys.modules[f"{self.package}.{name.partition('.')[0]}"]

    def _takes(self, top: str, importer: str | None) -> bool:
        """Whether a name is that of a module beside the file; a file that imports its own name means another's."""
        if top in _SHARED or importer == f"{self.package}.{top}":
            return False
        if top not in self._is_beside:
            self._is_beside[top] = self._lies_beside(top)
        return self._is_beside[top]

    def _lies_beside(self, top: str) -> bool:
        spec = _found_in(str(self._path.parent), top)
        if spec is None or spec.loader is not None:
            return spec is not None
        elsewhere = PathFinder.find_spec(top)  # a plain directory comes after all packages, as for Python
        return elsewhere is None or elsewhere.origin is None


class _Loader(_SourceFileLoader):
    """Runs a module with the builtins of its package."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile what the file says now: a `.pyc` can't tell two edits of one second apart."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        package = sys.modules[module.__name__.partition(".")[0]]
        module.__dict__["__builtins__"] = package.__dict__["__builtins__"]
        super().exec_module(module)


class _Finder:
    """Finds the members of the packages that files were made, as their directories are now."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, _: ModuleType | None = None) -> ModuleSpec | None:
        if not name.startswith(_PREFIX):
            return None
        found = (_found_in(directory, name) for directory in path or ())
        return next((spec for spec in found if spec is not None), None)


def _found_in(directory: str, name: str) -> ModuleSpec | None:
    """Look for a module in a directory, with no memory of what was there before."""
    return FileFinder(directory, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, [".py"])).find_spec(name)
