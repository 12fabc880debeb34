"""One output of a whole batch to one result an item."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from carpool.errors import ModelError
from carpool.models.model import Results


def split_items(output: Any, num_items: int, target: str) -> Results:
    """Split along the first axis; tuples and dicts of arrays become a tuple or dict an item.

    Args:
        output: an array (B, ...), or nested tuples, lists and dicts of such.
        num_items: how many items the batch had, B.
        target: how to name the model in messages.

    Returns:
        The array itself, whose rows are the results, or a list.

    Raises:
        ModelError: an array's first axis is not the batch's, or the output holds something else.

    >>> split_items({"sum": np.array([1, 2])}, 2, "model")
    [{'sum': np.int64(1)}, {'sum': np.int64(2)}]
    """
    if isinstance(output, np.ndarray):
        if output.ndim == 0 or len(output) != num_items:
            raise ModelError(_wrong_axis(output, num_items, target))
        return output
    if isinstance(output, Mapping):
        keys, parts = list(output), [split_items(value, num_items, target) for value in output.values()]
        return [dict(zip(keys, values, strict=True)) for values in zip(*parts, strict=True)]
    if isinstance(output, tuple | list) and output:
        return list(zip(*(split_items(value, num_items, target) for value in output), strict=True))
    raise ModelError(f"{target} returned {type(output).__name__}; it must return tensors, or tuples or dicts of them")


def _wrong_axis(output: Any, num_items: int, target: str) -> str:
    return (
        f"{target} returned an array of shape {output.shape} for a batch of {num_items}; the first axis must be "
        f"{num_items}, one row an item, in order"
    )
