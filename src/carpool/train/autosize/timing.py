"""How long passes over micro-batches of several sizes take, measured in turn so that all see the same machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from carpool.train.autosize.answer import Answer
from carpool.train.autosize.probe import Windows, batch_of, device_of, probe_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.train.setup import TrainSetup

LEAST_ROUNDS = 3


def time_sizes(
    setup: TrainSetup, sizes: Sequence[int], *, budget_s: float, clock: Callable[[], float] = time.perf_counter
) -> Answer:
    """Time forward and backward passes over micro-batches of several sizes, and the optimiser's step.

    The largest is computed first, and its peak of memory noted: this process keeps what it frees, as training does
    unless told otherwise. Then each size is computed twice without being counted, and all in turn until time is up.

    Args:
        setup: what training consists of; it is trained.
        sizes: of micro-batches; they must fit.
        budget_s: seconds after which no round is begun, but for the first ones.
        clock: seconds from any origin.

    Raises:
        Exception: whatever the model raises.
    """
    peak_bytes = probe_steps(setup, max(sizes)).peak_bytes
    until = clock() + budget_s
    windows = Windows(setup)
    for size in sizes:
        batch = batch_of(setup, size)
        windows.run([batch, batch])
    windows.updates_s.clear()
    times: dict[int, list[float]] = {size: [] for size in sizes}
    num_rounds = 0
    while num_rounds < LEAST_ROUNDS or clock() < until:
        num_rounds += 1
        for size in sizes:
            times[size] += windows.run([batch_of(setup, size)])
    return Answer(
        peak_bytes=peak_bytes,
        num_items=setup.num_items,
        device=str(device_of(setup)),
        passes_s=tuple((size, tuple(seconds)) for size, seconds in times.items()),
        updates_s=tuple(windows.updates_s),
    )
