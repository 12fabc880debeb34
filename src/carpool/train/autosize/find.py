"""The largest micro-batch that fits in memory: training steps are really made until it is known within 5 %."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from carpool.core.limits import check_whole
from carpool.cost.memory import MemoryFit, fit_memory
from carpool.cost.points import MemoryPoint
from carpool.errors import ConfigError, ModelError, OutOfMemory
from carpool.train.autosize.agree import RankStore
from carpool.train.autosize.answer import Answer, judge
from carpool.train.autosize.place import Place, open_place
from carpool.train.autosize.process import IN_A_PROBE
from carpool.train.autosize.result import MicroBatch, Probe, Throughput
from carpool.train.autosize.search import MOST_PROBES, Known, next_size
from carpool.train.autosize.throughput import sizes_to_time, summarise
from carpool.units import counted, parse_bytes, parse_duration_s

if TYPE_CHECKING:
    from carpool.train.setup import TrainSetup

Value = TypeVar("Value")

TIMEOUT_S = 120.0
TIMING_S = 3.0
MOST_SIZE = 1 << 20


def find_micro_batch(
    setup: str | Callable[[], TrainSetup] | TrainSetup,
    *,
    memory: str | int | None = None,
    most: int = MOST_SIZE,
    timeout_s: float | str = TIMEOUT_S,
    timing_s: float | str = TIMING_S,
    device: str | None = None,
    ranks: RankStore | None = None,
    on_probe: Callable[[Probe], None] | None = None,
) -> MicroBatch:
    """Find the largest micro-batch whose training steps fit in memory, and the one that trains fastest.

    Real training steps are made, the optimiser's included, with the micro-batches that take the most memory
    (`TrainSetup.worst_batch`), several of them a step: gradients are held while the next activations are. At most 12
    sizes are tried, and the result is one that was tried, within 5 % of the largest that fits.

    On the CPU each size is tried in a process of its own, which makes the setup anew; that it is killed for want of
    memory is an answer. The measure is the process's peak of resident memory while it trains, freed memory being given
    back at once (`give_back_freed_memory`): without that the peak rises and falls from size to size and run to run.
    On an accelerator sizes are tried in this process, and weights, gradients, optimiser, buffers, random numbers and
    loaders are put back as they were; the measure is the most that PyTorch's allocator took from the device.

    Several ranks, as `torchrun` starts them, each search for themselves, share their machine's memory, hold as much
    beside as the gradients take (other ranks' arrive there), and agree on the smallest result through the store that
    they met at, outside collectives.

    Args:
        setup: what training consists of: `file.py:setup`, `package.module:setup`, a function that another process can
            import, or on an accelerator the setup itself.
        memory: the most that training may hold, such as "2GiB"; a tighter limit of the machine's, its container's or
            the process's still holds. By default 80 % of what is available, 95 % of an accelerator's.
        most: largest micro-batch of interest; never more than the data have items.
        timeout_s: seconds after which a size counts as too large; a process that is slower is ended.
        timing_s: seconds for timing sizes that fit; 0 leaves throughput out.
        device: "cpu" or the accelerator that the model computes on; found out by default.
        ranks: those that train together; found out by default.
        on_probe: called with each probe as soon as it is made.

    Raises:
        ConfigError: what was asked for can't be; the message says what.
        OutOfMemory: not even one item fits.
        ModelError: a training step failed, here or on another rank.
    """
    _check_not_probed()
    check_whole("most", most)
    given_bytes = None if memory is None else parse_bytes(memory)
    timeout, timing = parse_duration_s(timeout_s), parse_duration_s(timing_s)
    together = _Together(ranks or RankStore.here(), (MOST_PROBES + 1) * timeout + timing)
    place = together.do(
        lambda: open_place(
            setup,
            device=device,
            given_bytes=given_bytes,
            timeout_s=timeout,
            num_ranks=together.num_ranks,
            num_here=together.num_here,
        )
    )
    together.smallest(0)  # nobody begins before all have read how much memory there is
    tried = Tried(place=place, most=most, on_probe=on_probe or (lambda _: None))
    together.do(tried.run)
    size = together.smallest(tried.known.largest)
    together.do(lambda: tried.time(size, timing))
    return tried.result(size)


def _check_not_probed() -> None:
    """Refuse to search within a probe: the file that is loaded there would begin one search within another."""
    if IN_A_PROBE in os.environ:
        raise ConfigError(
            "find_micro_batch was called while the file was loaded to try a size: put what is not for every process "
            "that loads the file under `if __name__ == '__main__':`"
        )


class _Together:
    """Lets ranks fail together and agree on numbers; for a process that is alone there is nothing to do.

    Args:
        ranks: those that train together; None where this process is alone.
        timeout_s: seconds to wait for the others.
    """

    def __init__(self, ranks: RankStore | None, timeout_s: float) -> None:
        self._ranks = ranks
        self._timeout_s = timeout_s
        self.num_ranks = ranks.num_ranks if ranks else 1
        self.num_here = ranks.num_here if ranks else 1

    def do(self, work: Callable[[], Value]) -> Value:
        """Work; where it fails, let the other ranks know."""
        try:
            return work()
        except BaseException as error:
            if self._ranks is not None:
                self._ranks.leave({"error": str(error) or type(error).__name__})
            raise

    def smallest(self, number: int) -> int:
        """The smallest of all ranks' numbers."""
        if self._ranks is None:
            return number
        return min(int(note["number"]) for note in self._ranks.exchange({"number": number}, self._timeout_s))


@dataclass(slots=True, kw_only=True)
class Tried:
    """Tries sizes until the largest that fits is known.

    Args:
        place: where.
        most: largest size of interest.
        on_probe: called with each probe.
    """

    place: Place
    most: int
    on_probe: Callable[[Probe], None]
    probes: list[Probe] = field(default_factory=list)
    _fit: list[tuple[int, Answer]] = field(default_factory=list)
    _timed: Answer | None = None
    _not_timed: str = ""

    @property
    def known(self) -> Known:
        """What the probes say."""
        return Known.of(self.probes, self.place.limit.limit_bytes)

    def run(self) -> None:
        """Try sizes.

        Raises:
            OutOfMemory: the smallest micro-batch does not fit.
            ModelError: one could not be trained with for another reason, or not in time.
            ConfigError: the loader does not give what it is asked for.
        """
        limit_bytes = self.place.limit.limit_bytes
        while (size := next_size(self.probes, limit_bytes=limit_bytes, most=self._most())) is not None:
            self._ask(size)
        if self.known.largest:
            return
        last = self.probes[-1]
        said = f"a micro-batch of {counted(last.size, 'item')}"
        if last.outcome == "does not fit":
            raise OutOfMemory(
                f"{said} does not fit in memory: {last.reason}; allow more, take a smaller model or shorter items"
            )
        raise ModelError(f"training with {said} failed: {last.reason}")

    def _most(self) -> int:
        return min([self.most, *(answer.num_items for _, answer in self._fit)])

    def _ask(self, size: int) -> None:
        start = time.perf_counter()
        answer = self.place.prober.ask(size)
        probe = judge(answer, size, self.place.limit, seconds=time.perf_counter() - start)
        self.probes.append(probe)
        self.on_probe(probe)
        if probe.fits:
            self._check_data(size, answer)
            self._fit.append((size, answer))
        elif probe.outcome == "failed" and self._fit:
            raise ModelError(
                f"training with micro-batches of {counted(size, 'item')} failed, and not with {self._fit[-1][0]}: "
                f"{probe.reason}; where that is as it should be, leave such sizes out by most={size - 1}"
            )

    def _check_data(self, size: int, answer: Answer) -> None:
        same = [smaller for smaller, other in self._fit if other.num_valid == answer.num_valid and smaller < size]
        if same and size <= answer.num_items:
            raise ConfigError(
                f"the loader's micro-batches have {counted(answer.num_valid, 'valid item')}, whether {same[0]} or "
                f"{size} are asked for: let it give as many as it is asked for, and count= of the setup count them"
            )

    def time(self, size: int, timing_s: float) -> None:
        """Time sizes up to the one that was agreed on.

        Args:
            size: the largest.
            timing_s: seconds; 0 for none.

        Where that takes too much memory or time, it is left out, and the result says why.

        Raises:
            ModelError: a size that could be trained with before can't any more.
        """
        if not timing_s:
            return
        sizes = sizes_to_time(size, min(self.known.fits)[0])
        answer = self.place.prober.time(sizes, timing_s)
        if answer.cause in {"memory", "time"}:
            self._not_timed = answer.error
        elif answer.cause:
            raise ModelError(
                f"micro-batches of {sizes[0]} to {sizes[-1]} items fitted, and then failed when they were timed: "
                f"{answer.error}"
            )
        else:
            self._timed = answer

    def result(self, size: int) -> MicroBatch:
        """Put together what was found.

        Args:
            size: that the ranks agreed on.
        """
        known, (_, facts) = self.known, self._fit[-1]
        sizes, peaks = zip(*known.fits, strict=True)
        more = 0.0 if known.too_large is None else (known.too_large - 1) / known.largest - 1.0
        return MicroBatch(
            size=size,
            peak_bytes=int(np.interp(size, sizes, peaks)),
            limit_bytes=self.place.limit.limit_bytes,
            limit_source=self.place.limit.source,
            too_large=known.too_large,
            exact_within=more,
            probes=tuple(self.probes),
            memory=_memory(known),
            throughput=None if self._timed is None else _throughput(self._timed),
            not_timed=self._not_timed,
            usual_bytes=None if self._timed is None else self._timed.peak_bytes,
            num_items=facts.num_items,
            device=facts.device,
            measure=self.place.measure,
        )


def _throughput(timed: Answer) -> Throughput:
    return summarise(timed.passes_s, timed.updates_s, measured_on={"device": timed.device})


def _memory(known: Known) -> MemoryFit | None:
    points = [MemoryPoint(batch_size=size, peak_bytes=peak) for size, peak in known.fits]
    return fit_memory(points) if len(points) > 1 else None
