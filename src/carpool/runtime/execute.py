"""Calling a model on a batch, and checking that it kept its side: one result an item, none of them NaN."""

from collections.abc import Callable, Sequence
from typing import Any

from carpool.errors import CarpoolError, ModelError, OutOfMemory, WrongResultCount
from carpool.models.blame import first_line_of, text_of
from carpool.units import counted, with_article

Run = Callable[[Sequence[Any]], Any]


_NEVER_NAN = frozenset({int, str, bytes, bool, type(None)})


def run_checked(run: Run, payloads: list[Any], size: int) -> list[Any]:
    """Run one batch; return a result or a `CarpoolError` for each payload.

    Whatever the model raises is an error of the model: `sys.exit()` in it must not end the thread that runs it.

    Args:
        run: the model's call: payloads in, one result each out, in order.
        payloads: at least one.
        size: rows to run; rows beyond the payloads repeat the last one, and their results are dropped.

    Raises:
        ModelError: the model raised.
        WrongResultCount: the number of results is not the number of payloads.
        OutOfMemory: there was not memory enough for the batch.
    """
    rows = payloads + [payloads[-1]] * (size - len(payloads))
    try:
        return _checked(run(rows), rows)[: len(payloads)]
    except CarpoolError as error:
        raise translate(error, len(rows)) from error.__cause__
    except BaseException as error:
        raise translate(error, len(rows)) from error


def translate(error: BaseException, num_items: int) -> CarpoolError:
    """Return what to tell a caller about an exception that came out of a model."""
    if is_out_of_memory(error):
        return OutOfMemory(
            f"a batch of {num_items} ran out of memory ({_one_line(error)}): use a smaller max_batch_size"
        )
    if isinstance(error, CarpoolError):
        return error
    return ModelError(f"the model raised {_one_line(error)} on a batch of {num_items}")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out; torch's CPU allocator raises a plain RuntimeError."""
    if isinstance(error, MemoryError | OutOfMemory) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in text_of(error)


def _one_line(error: BaseException) -> str:
    said = first_line_of(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _checked(results: Any, rows: list[Any]) -> list[Any]:
    count = _count(results)
    if count != len(rows):
        found = with_article(type(results).__name__) if count is None else counted(count, "result")
        raise WrongResultCount(
            f"the model returned {found} for {counted(len(rows), 'item')}: return a list with one result an item"
        )
    if hasattr(results, "dtype") and not _has_nan(results):
        return list(results)
    return [
        result if type(result) in _NEVER_NAN or (type(result) is float and result == result) else _check_one(result)  # noqa: PLR0124
        for result in results
    ]


def _count(results: Any) -> int | None:
    """Count results; None for what is no sequence, which an array without dimensions is not either."""
    if isinstance(results, str | bytes | dict) or not hasattr(results, "__len__"):
        return None
    return None if getattr(results, "shape", None) == () else len(results)


def _check_one(result: Any) -> Any:
    if isinstance(result, CarpoolError):
        return result
    if isinstance(result, Exception):
        return ModelError(f"the model returned {_one_line(result)} for this item")
    if _has_nan(result):
        return ModelError("the model returned NaN for this item: check the item, or the model's dtype for overflow")
    return result


def _has_nan(result: Any) -> bool:
    if isinstance(result, float):
        return result != result  # noqa: PLR0124 - what NaN is: the only value that differs from itself
    if isinstance(result, list | tuple):
        return bool(result) and isinstance(result[0], float) and any(x != x for x in result)  # noqa: PLR0124
    kind = getattr(getattr(result, "dtype", None), "kind", "")
    return bool(kind in "fc" and kind and (result != result).any())  # noqa: PLR0124
