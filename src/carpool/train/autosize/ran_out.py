"""Whether an error means that memory ran out, however it is said."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from carpool.models.blame import text_of
from carpool.runtime.execute import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

# PyTorch has a type of its own for accelerators only. What its CPU allocator, oneDNN, the C++ library, the threads'
# libraries and a loader's worker that the system ended say, they say in a plain RuntimeError or on standard error.
_SAID = (
    "DefaultCPUAllocator",
    "not enough memory",
    "std::bad_alloc",
    "Cannot allocate memory",
    "could not create a memory object",
    "can't start new thread",
    "Thread creation failed",
    "is killed by signal: Killed",
    "MemoryError",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, means that memory ran out.

    On an accelerator the error's type says so. On the CPU it is a plain RuntimeError, whose text does.

    Args:
        error: what was caught.

    >>> ran_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    True
    >>> ran_out_of_memory(RuntimeError("CUDA error: device-side assert triggered"))
    False
    """
    return any(_is_for_memory(one) for one in _chain(error))


def _is_for_memory(error: BaseException) -> bool:
    if is_out_of_memory(error) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return type(error) is RuntimeError and says_out_of_memory(text_of(error))


def says_out_of_memory(text: str) -> bool:
    """Whether what a process wrote before it ended means that memory ran out.

    Args:
        text: of its standard error.
    """
    return any(said in text for said in _SAID)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        yield here
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)
