"""Calls of a real model on batches of an exact shape, each on the worker thread and timed there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from carpool.errors import CarpoolError, ModelError
from carpool.models.model import Model
from carpool.profile.device import Device
from carpool.profile.energy import Meter
from carpool.profile.shape import Shape
from carpool.profile.worker import OneThread
from carpool.runtime.execute import run_checked, translate
from carpool.units import counted


@dataclass(slots=True)
class Pool:
    """Items of one length, handed out in turn so that no two batches are the same.

    Args:
        payloads: Admitted payloads, at least one.
    """

    payloads: Sequence[Any]
    next_one: int = 0

    def take(self, num_items: int) -> list[Any]:
        """Return the next so many, beginning again where they run out."""
        start, total = self.next_one, len(self.payloads)
        self.next_one = (start + num_items) % total
        return [self.payloads[(start + index) % total] for index in range(num_items)]


@dataclass(slots=True)
class Energy:
    """Joules that were counted over calls of one shape, and the items in them."""

    joules: float = 0.0
    seconds: float = 0.0
    num_items: int = 0


@dataclass(slots=True)
class ModelCaller:
    """Runs a model, loaded on the worker thread, on items of exact lengths.

    Args:
        model: A loaded model.
        pools: Items by length.
        thread: The thread that the model was loaded on.
        device: What has to be waited for.
        meter: Counts joules; None where nothing can be read.
        clock: Seconds from any origin.
        energy: What the meter counted, by shape.
    """

    model: Model
    pools: dict[int, Pool]
    thread: OneThread
    device: Device
    meter: Meter | None = None
    clock: Callable[[], float] = time.perf_counter
    energy: dict[Shape, Energy] = field(default_factory=dict)

    def check_s(self, shape: Shape) -> float:
        """Run once and check the results; the seconds are those of the call with its checks.

        Raises:
            CarpoolError: The model raised, or did not return one finite result an item.
        """
        payloads = self.pools[shape.length].take(shape.batch_size)

        def call() -> float:
            start = self.clock()
            results = run_checked(self.model.run, payloads, len(payloads))
            seconds = self.clock() - start
            refuse_failed_items(results)
            return seconds

        return self.thread.call(call)

    def times_s(self, shape: Shape, num_calls: int, *, settle: bool) -> list[float]:
        """Run a few times on the worker thread; return the seconds of each timed call.

        Raises:
            CarpoolError: The model raised.
        """
        pool = self.pools[shape.length]
        batches = [pool.take(shape.batch_size) for _ in range(num_calls + settle)]

        def calls() -> list[float]:
            joules = None if self.meter is None else self.meter.joules()
            start = self.clock()
            times_s = [self.time_payloads(payloads) for payloads in batches]
            if self.meter is not None and joules is not None:
                self._count(shape, self.meter.joules() - joules, self.clock() - start, len(batches))
            return times_s[settle:]

        return self.thread.call(calls)

    def time_payloads(self, payloads: list[Any]) -> float:
        """Run payloads of any lengths as one batch, and return the seconds; call it on the worker thread.

        Raises:
            CarpoolError: The model raised.
        """
        self.device.synchronize()
        start = self.clock()
        try:
            self.model.run(payloads)
        except BaseException as error:
            raise translate(error, len(payloads)) from error
        self.device.synchronize()
        return self.clock() - start

    def _count(self, shape: Shape, joules: float, seconds: float, num_calls: int) -> None:
        counted = self.energy.setdefault(shape, Energy())
        counted.joules += joules
        counted.seconds += seconds
        counted.num_items += num_calls * shape.batch_size


def refuse_failed_items(results: Sequence[Any]) -> None:
    """Raise where any item of a batch has an error, or NaN, for its result.

    Raises:
        ModelError: Says how many, and the first one's message.
    """
    failed = [result for result in results if isinstance(result, CarpoolError)]
    if failed:
        raise ModelError(f"{len(failed)} of {counted(len(results), 'item')} failed: {failed[0]}")
