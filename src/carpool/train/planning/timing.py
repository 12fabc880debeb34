"""How long the training data's own micro-batches take, loading included: an epoch is made of these."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.train.autosize.probe import Windows, device_of
from carpool.train.autosize.throughput import sizes_to_time, summarise
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.train.autosize.result import Throughput
    from carpool.train.setup import TrainSetup

WARM_UPS, LEAST_ROUNDS = 2, 3


def time_passes(
    setup: TrainSetup,
    largest: int,
    *,
    smallest: int = 1,
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Throughput:
    """Time passes over micro-batches of several sizes in turn, so that all see the same machine.

    Args:
        setup: what training consists of; it is trained.
        largest: items of the largest micro-batch; it must fit.
        smallest: items of the smallest one that can be trained with.
        budget_s: seconds after which no round is begun, but for the first ones.
        clock: seconds from any origin.

    Raises:
        ConfigError: the loader gives less than it says.
    """
    sizes = sizes_to_time(min(largest, setup.num_items), smallest)
    windows = Windows(setup)
    loaders = {size: _endless(setup, size) for size in sizes}
    passes_s: dict[int, list[float]] = {size: [] for size in sizes}
    until, num_rounds = clock() + budget_s, 0
    while num_rounds < WARM_UPS + LEAST_ROUNDS or clock() < until:
        for size, loader in loaders.items():
            start = clock()
            batch = next(loader)
            loaded_s = clock() - start
            passes_s[size] += [loaded_s + pass_s for pass_s in windows.run([batch])]
        num_rounds += 1
    kept = tuple((size, tuple(times[WARM_UPS:])) for size, times in passes_s.items())
    return summarise(kept, windows.updates_s[WARM_UPS * len(sizes) :], measured_on={"device": str(device_of(setup))})


def _endless(setup: TrainSetup, size: int) -> Iterator[Any]:
    """Whole micro-batches, pass after pass over the data."""
    while True:
        num_given = 0
        for batch in itertools.islice(setup.loader(size), setup.num_items // size):
            num_given += 1
            yield batch
        if num_given < setup.num_items // size:
            raise ConfigError(
                f"loader({size}) gave {counted(num_given, 'micro-batch')}, and {setup.num_items:,} items make "
                f"{setup.num_items // size:,}: correct num_items of the setup, or the loader"
            )
