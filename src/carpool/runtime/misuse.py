"""Calls that can't work, answered with what to write instead."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from carpool.errors import ConfigError

Parameters = ParamSpec("Parameters")
Returned = TypeVar("Returned")

_ITEM_OPTIONS = ("deadline_s", "priority", "tenant", "request_id")


def running_loop(call: str) -> asyncio.AbstractEventLoop:
    """Return the event loop that runs on this thread.

    Args:
        call: what needs it, for the message.

    Raises:
        ConfigError: none does.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError(
            f"{call} was called where no event loop runs, so that nothing can await its result: use "
            "batcher.map([item]) in ordinary code, or `await batcher(item)` within an `async def` function"
        ) from None


def unknown_options(subject: str, unknown: Iterable[str], known: Iterable[str]) -> ConfigError:
    """Return the error that names the nearest known option.

    >>> unknown_options("a Batcher", ["max_batchsize"], ["max_batch_size", "max_wait"])
    ConfigError("a Batcher has no option 'max_batchsize': did you mean 'max_batch_size'?")
    """
    from carpool.config.keys import nearest  # loads msgspec, which a batcher does not need otherwise

    names = list(known)
    return ConfigError("; ".join(f"{subject} has no option {name!r}: {nearest(name, names)}" for name in unknown))


def check_item_options(options: Iterable[str]) -> None:
    """Refuse what is no option of an item.

    Raises:
        ConfigError: an option is not known; the nearest one that is is named.
    """
    unknown = [name for name in options if name not in _ITEM_OPTIONS]
    if unknown:
        raise unknown_options("an item", unknown, _ITEM_OPTIONS)


def naming_options(subject: str) -> Callable[[Callable[Parameters, Returned]], Callable[Parameters, Returned]]:
    """Let a function that is given an option it does not have name the nearest one it has.

    Type checkers and editors see the function's own signature.

    Args:
        subject: whose options they are, for the message.
    """

    def decorate(function: Callable[Parameters, Returned]) -> Callable[Parameters, Returned]:
        parameters = inspect.signature(function).parameters
        options = [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY]

        @functools.wraps(function)
        def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Returned:
            if unknown := [name for name in kwargs if name not in parameters]:
                raise unknown_options(subject, unknown, options)
            return function(*args, **kwargs)

        return checked

    return decorate
