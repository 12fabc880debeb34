"""A batcher by a line above a function."""

import functools
from collections.abc import Callable
from typing import Any

from carpool.runtime.batcher import Batcher


def batched(**options: Any) -> Callable[[object], Batcher]:
    """Turn a function over a list, or a class, into a batcher that is called with single items.

    It starts at its first call. For `options` see `Batcher`.

    >>> @batched(max_batch_size=64)
    ... def double(numbers: list[int]) -> list[int]:
    ...     return [2 * number for number in numbers]
    >>> double.map([1, 2])
    [2, 4]
    """

    def decorate(function: object) -> Batcher:
        batcher = Batcher(function, **options)
        functools.update_wrapper(batcher, function, updated=())  # type: ignore[arg-type]
        return batcher

    return decorate
