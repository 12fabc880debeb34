"""What a user's function, class or module may say about its items: check, length and examples."""

import inspect
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

from carpool.errors import ConfigError, InvalidItem
from carpool.models.blame import calling, describe, text_of
from carpool.units import with_article


class Hooks:
    """The optional attributes `check`, `length` and `examples` of a target.

    Args:
        owner: the function, instance or module that may have them.
        target: how to name it in messages.

    Raises:
        ConfigError: one of them is not what it must be.
    """

    def __init__(self, owner: object, target: str) -> None:
        self._target = target
        self._check = _callable(owner, "check", target)
        self._length = _callable(owner, "length", target)
        self._ragged = getattr(owner, "ragged", False) is True
        self._examples = getattr(owner, "examples", None)
        if self._ragged and self._length is None:
            raise ConfigError(
                f"{target} says `ragged = True`: lengths then add up, so it needs a function length(item)"
            )

    @property
    def has_length(self) -> bool:
        """Whether the target tells the lengths of its items."""
        return self._length is not None

    @property
    def ragged(self) -> bool:
        """Whether the target says that it pads nothing: items run side by side, at the cost of their lengths' sum."""
        return self._ragged

    @property
    def has_examples(self) -> bool:
        """Whether the target offers items to measure with."""
        return self._examples is not None

    def check(self, item: object) -> None:
        """Let the target's own `check` look at one item.

        Raises:
            InvalidItem: it raised; the message is its own.
        """
        if self._check is None:
            return
        try:
            self._check(item)
        except InvalidItem:
            raise
        except BaseException as error:
            _let_through_ctrl_c(error)
            raise InvalidItem(f"{self._target} refuses this item: {text_of(error) or type(error).__name__}") from error

    def length(self, item: object) -> int:
        """The length of one item by the target's own `length`, 1 where it has none.

        Raises:
            InvalidItem: it raised, or gave something other than a whole number of at least 1.
        """
        if self._length is None:
            return 1
        try:
            length = self._length(item)
        except BaseException as error:
            _let_through_ctrl_c(error)
            raise InvalidItem(f"length() of {self._target} raised {describe(error)}") from error
        if isinstance(length, bool) or not hasattr(length, "__index__") or int(length) < 1:
            raise InvalidItem(
                f"length() of {self._target} gave {length!r} for an item; it must be a whole number from 1"
            )
        return int(length)

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Items that the target offers, repeated in turn where there are fewer.

        Args:
            num_items: how many.
            length: only items of exactly this length; None for all.
            seed: where to begin in a list.

        Raises:
            ConfigError: the target has no `examples`, an empty list, or none of that length.
            ModelError: its `examples` function raised.
        """
        if self._examples is None:
            remedy = "give it `examples`: a list of items, or a function examples(n) that returns n of them"
            raise ConfigError(f"{self._target} offers no items to measure with; {remedy}")
        items, cut = self._offered(num_items, length)
        if length is not None and not cut:
            items = self._of_length(items, length)
        if not items:
            raise ConfigError(f"`examples` of {self._target} is empty; it needs at least one item")
        return [items[(seed + i) % len(items)] for i in range(num_items)]

    def _offered(self, num_items: int, length: int | None) -> tuple[list[Any], bool]:
        """The items, and whether the target itself saw to their length."""
        offered = self._examples
        if not callable(offered):
            return list(_sequence(offered, self._target)), False
        options: dict[str, int] = {}
        if length is not None and "length" in _parameters(offered):
            options["length"] = length
        items = calling(f"examples() of {self._target}", lambda: offered(num_items, **options))
        return list(_sequence(items, self._target)), bool(options)

    def _of_length(self, items: list[Any], length: int) -> list[Any]:
        lengths = [self.length(item) for item in items]
        chosen = [item for item, its in zip(items, lengths, strict=True) if its == length]
        if not chosen:
            known = ", ".join(map(str, sorted(set(lengths))[:10]))
            remedy = "let `examples(n, length=...)` make such items, or choose among those lengths"
            raise ConfigError(f"{self._target} offers no example of length {length}, only of {known}; {remedy}")
        return chosen


def _let_through_ctrl_c(error: BaseException) -> None:
    """Raise again what a key may have caused: by Python's own handler, which raises it on the main thread."""
    if (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):
        raise error


def _callable(owner: object, name: str, target: str) -> Callable[[Any], Any] | None:
    hook = getattr(owner, name, None)
    if hook is None or callable(hook):
        return hook
    raise ConfigError(f"`{name}` of {target} is {with_article(type(hook).__name__)}; it must be a function of one item")


def _sequence(items: object, target: str) -> Sequence[Any]:
    if isinstance(items, Sequence | tuple) and not isinstance(items, str | bytes):
        return items
    if hasattr(items, "__len__") and hasattr(items, "__getitem__") and not isinstance(items, dict | str | bytes):
        return [items[i] for i in range(len(items))]
    raise ConfigError(
        f"`examples` of {target} is {with_article(type(items).__name__)}; "
        "it must be a list of items, or a function giving one"
    )


def _parameters(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return set()
