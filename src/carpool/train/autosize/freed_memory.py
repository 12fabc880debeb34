"""Whether the C library keeps what a process frees: on Linux it does, and a peak of memory then says little.

glibc serves tensors of up to 32 MiB from a heap that it gives back from the top only, and the more of them it has seen
freed, the larger those that it puts there. What a process holds then depends on the order in which tensors came and
went: the same training steps differed by 7 % from run to run, and needed less at a micro-batch of 128 than at 64. Told
to map every larger tensor by itself, and to unmap it when it is freed, the same steps needed the same memory to 0.1 %,
in a straight line over sizes.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # glibc's malloc.h
LARGER_THAN_BYTES = 1 << 20
KEPT_AT_MOST_BYTES = 1 << 17


def give_back_freed_memory() -> bool:
    """Let this process give memory back as soon as a tensor is freed, as the search for a micro-batch assumes.

    Call it first of all, before tensors are made. Passes over small micro-batches become slower, since the system
    clears memory each time that it is taken again.

    Returns:
        Whether the C library can be told so: glibc can. Where another allocator is preloaded it has no effect.

    >>> give_back_freed_memory() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, LARGER_THAN_BYTES),
        (_M_TRIM_THRESHOLD, KEPT_AT_MOST_BYTES),
        (_M_ARENA_MAX, 1),
    )
    return [mallopt(name, value) for name, value in settings] == [1, 1, 1]
