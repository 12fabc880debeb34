"""A plain Python function over a list, or a class with `load()` and `__call__(batch)`."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from carpool.errors import ConfigError, TargetError
from carpool.models.blame import calling
from carpool.models.hooks import Hooks
from carpool.models.model import Admitted, Model, ModelInfo, Results
from carpool.models.threads import ThreadCount


class FunctionModel(Model):
    """A callable that takes a list of items and returns one result for each.

    Args:
        function: the callable, or a class whose instances are; an instance may have `load()`,
            `check(item)`, `length(item)` and `examples`, and say `concurrent = True` where threads may share it, and
            `ragged = True` where it pads nothing, so that the lengths of a batch's items add up.
        name: a short name.
        target: how to name it in messages.
        num_threads: PyTorch's threads, where the callable uses PyTorch; None leaves its choice.

    Raises:
        TargetError: the callable can never be run on a list, with the remedy.

    >>> model = FunctionModel(lambda texts: [len(text) for text in texts], name="lengths")
    >>> model.load()
    >>> model.run(["a", "bcd"])
    [1, 3]
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        target: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._target = target or name
        self._info = ModelInfo(name=name, kind="function", target=self._target, num_threads=num_threads)
        self._threads = ThreadCount(num_threads)
        self._made_by = function if isinstance(function, type) else None
        self._call: Callable[[list[Any]], Any] | None = None if self._made_by else function
        require_list_function(function, self._target)
        # A class tells whether items have lengths before there is an instance.
        self._hooks = Hooks(function, self._target)
        if self._hooks.ragged:
            self._info = replace(self._info, batching="packed")
        self._is_loaded = False

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    @property
    def has_length(self) -> bool:
        """Whether the target has a function `length`."""
        return self._hooks.has_length

    @property
    def concurrent(self) -> bool:
        """Whether threads may share it: a function, or what says so of itself."""
        said = getattr(self._call or self._made_by, "concurrent", None)
        return (
            inspect.isroutine(self._call) or isinstance(self._call, functools.partial) if said is None else bool(said)
        )

    def load_admission(self) -> None:
        """Make the instance where the target is a class, for its `check` and `length`; its `load()` is not called.

        Raises:
            ModelError: the user's code raised.
        """
        if self._made_by is not None and self._call is None:
            self._call = calling(f"{self._target}()", self._made_by)
            self._hooks = Hooks(self._call, self._target)

    def load(self) -> None:
        """Make the instance where the target is a class, and call its `load()` where it has one.

        Raises:
            ModelError: the user's code raised.
        """
        if self._is_loaded:
            return
        self._threads.apply()
        if self._made_by is not None:
            self._call = calling(f"{self._target}()", self._made_by)
        load = getattr(self._call, "load", None)
        if callable(load):
            calling(f"load() of {self._target}", load)
        self._hooks = Hooks(self._call, self._target)
        self._is_loaded = True

    def admit(self, item: object) -> Admitted:
        """Check one item by the target's own `check`, and take its length.

        Raises:
            InvalidItem: `check` raised, or `length` gave no length.
        """
        self._hooks.check(item)
        return Admitted(item, self._hooks.length(item))

    def run(self, payloads: Sequence[Any]) -> Results:
        """Call the function on a list of items.

        Args:
            payloads: the items.
        """
        assert self._call is not None, "load() comes before run()"
        self._threads.apply()
        return _as_results(self._call(list(payloads)))

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Items from the target's own `examples`.

        Raises:
            ConfigError: it has none, or none of that length.
        """
        return self._hooks.examples(num_items, length=length, seed=seed)

    def close(self) -> None:
        """Call the `close()` of an instance that this model made, where it has one."""
        close = getattr(self._call, "close", None)
        if self._is_loaded and self._made_by is not None and callable(close):
            calling(f"close() of {self._target}", close)
        self._is_loaded = False


def require_list_function(function: Callable[..., Any], target: str) -> None:
    """Refuse what can never be called with one list of items.

    Args:
        function: a function, an instance with `__call__`, or a class of such.
        target: how to name it in the message.

    Raises:
        TargetError: a class whose constructor needs arguments or whose instances can't be called, a coroutine
            function, a generator function, or a signature that does not take exactly one list.
    """
    if isinstance(function, type):
        require_no_arguments(function, target)
        if "__call__" not in dir(function):
            raise TargetError(f"{target} is a class without __call__(self, batch); add it: it takes a list of items")
    is_plain = inspect.isroutine(function) or isinstance(function, functools.partial)
    body: Any = function if is_plain else function.__call__  # type: ignore[operator]  # an instance of a class
    if inspect.iscoroutinefunction(body) or inspect.isasyncgenfunction(body):
        remedy = "write it as a plain `def`: a model runs on a thread of its own, so that it may block"
        raise TargetError(f"{target} is an `async def` function; {remedy}")
    if inspect.isgeneratorfunction(body):
        raise TargetError(
            f"{target} is a generator function; return a list with one result an item instead of yielding"
        )
    _require_one_list(body, target, num_bound=1 if isinstance(function, type) else 0)


def require_no_arguments(made: type, target: str) -> None:
    """Refuse a class that can't be made without being told how.

    Args:
        made: the class.
        target: how to name it in the message.

    Raises:
        TargetError: its constructor has arguments without a default.
    """
    needed = _required_arguments(made)
    if needed:
        raise TargetError(
            f"{target} is a class whose constructor needs {', '.join(needed)}; give them defaults, "
            f"or make an instance in the file and name that"
        )


def _required_arguments(made: type) -> list[str]:
    try:
        parameters = inspect.signature(made).parameters.values()
    except (TypeError, ValueError):  # some built-in classes have no signature
        return []
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in variable]


def _require_one_list(body: Callable[..., Any], target: str, *, num_bound: int) -> None:
    try:
        signature = inspect.signature(body)
    except (TypeError, ValueError):  # some built-in functions have no signature: nothing can be said
        return
    try:
        signature.bind(*[None] * (num_bound + 1))
    except TypeError as error:
        shown = ", ".join(str(p) for p in list(signature.parameters.values())[num_bound:])
        raise TargetError(
            f"{target} takes ({shown}); it must take one list of items, and nothing else without a default"
        ) from error


def _as_results(returned: Any) -> Results:
    """A tensor becomes an array; everything else is as the function gave it."""
    if isinstance(returned, list | np.ndarray | tuple):
        return returned
    if type(returned).__module__.partition(".")[0] == "torch" and hasattr(returned, "detach"):
        from carpool.models.torch_tree import to_numpy

        array: Results = to_numpy(returned)
        return array
    results: Results = returned
    return results


def refuse_options(target: str, *, device: str | None, dtype: str | None) -> None:
    """Refuse a device or type for a target that chooses its own.

    Raises:
        ConfigError: one was given.
    """
    for option, value in (("device", device), ("dtype", dtype)):
        if value is not None and (option, value) not in (("device", "cpu"), ("dtype", "auto")):
            raise ConfigError(
                f"{option} {value!r} has no effect on {target}: a function chooses that itself; leave it out"
            )
