"""Where no setup keeps the objectives: what comes nearest, and what would have to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING

from carpool.plan.candidates import Candidates
from carpool.plan.changed_cost import ChangedCost
from carpool.plan.predict import Interval
from carpool.plan.scene import Scene
from carpool.plan.setup import Setup
from carpool.plan.slo import Verdict, verdict_of
from carpool.plan.words import among, describe_setup
from carpool.units import counted, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.plan.search import SearchResult

# Windows of which most have to keep the objectives, as in a plan that is not called missed, and items in each at least.
_NUM_RUNS, _LEAST_ITEMS = 9, 2_000
# The least share of the rate that is looked at, and how far apart two factors may be to count as one.
_LEAST_SHARE, _APART = 1 / 64, 1.06
# Beyond this many times the workers or the speed it is called impossible.
_MOST_TIMES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """What comes nearest to objectives that cannot be kept.

    Args:
        setup: The policy and workers that come nearest at the whole rate.
        latencies_s: What they reach, one for each objective, in their order.
        rate: Most items a second at which the objectives are kept; None where they are at none.
        rate_setup: What keeps them at that rate; None where nothing does.
        num_workers: Fewest workers that keep them at the whole rate; None where more workers do not help.
        speed: How many times as fast the device would have to be; None where that does not help either.
        sentences: The same in words.
    """

    setup: Setup
    latencies_s: tuple[Interval, ...]
    rate: float | None
    rate_setup: Setup | None
    num_workers: int | None
    speed: float | None
    sentences: tuple[str, ...]


def nearest(
    scene: Scene,
    candidates: Candidates,
    result: SearchResult,
    *,
    max_workers: int,
    watch: Callable[[str], object] = lambda _: None,
) -> Nearest:
    """Look for what would keep the objectives: less load, more workers, or a faster device.

    Args:
        scene: Short windows.
        candidates: What may be tried.
        result: What the search found, which does not keep them.
        max_workers: Most workers that it was allowed.
        watch: Told what is being looked at.
    """
    scene = replace(scene, window_s=max(scene.window_s, _LEAST_ITEMS / scene.load.rate))
    probe = _Probe(scene=scene, candidates=candidates, setups=_setups(candidates, result))
    watch("the highest rate that keeps the objectives")
    rate, rate_setup = probe.highest_rate()
    watch("how many workers would keep the objectives")
    num_workers = probe.fewest_workers(max_workers)
    watch("how fast a device would keep the objectives")
    found = Nearest(
        setup=result.chosen,
        latencies_s=result.prediction.at_objectives_s,
        rate=rate,
        rate_setup=rate_setup,
        num_workers=num_workers,
        speed=probe.least_speed(),
        sentences=(),
    )
    return replace(found, sentences=tuple(_sentences(found, scene, candidates, max_workers)))


def _setups(candidates: Candidates, result: SearchResult) -> Sequence[Setup]:
    """Return what may do better under another load: what was found, its like, the smallest and the knee's batch."""
    num = result.chosen.num_workers
    sizes = (1, min(candidates.knee, candidates.sizes()[-1]))
    setups = [result.chosen]
    for setup in (result.fastest, *(candidates.of_size(size, num) for size in sizes)):
        if setup not in setups:
            setups.append(setup)
    return setups


def keeps(scene: Scene, setup: Setup) -> bool:
    """Tell whether most of some windows keep every objective with a queue that has an end."""
    most, num_kept, num_missed = _NUM_RUNS // 2 + 1, 0, 0
    while max(num_kept, num_missed) < most:
        alone = scene.together([scene.figures(setup, num_kept + num_missed)])
        kept = verdict_of(alone) is Verdict.MET
        num_kept, num_missed = num_kept + kept, num_missed + (not kept)
    return num_kept == most


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """Tries the same setups with another load, other workers or another device."""

    scene: Scene
    candidates: Candidates
    setups: Sequence[Setup]

    def keeper(self, *, share: float = 1.0, speed: float = 1.0, num_workers: int | None = None) -> Setup | None:
        """Return the first setup that keeps the objectives; None where none does.

        Args:
            share: Of the load.
            speed: How many times as fast the device is.
            num_workers: Workers instead of the setup's own.
        """
        scene = self.scene if share == 1 else self.scene.scaled(share)
        if speed != 1:
            cost = ChangedCost(measured=scene.subject.cost.clipped(), time_factor=1 / speed)
            scene = replace(scene, cost=cost)
        setups = (replace(one, num_workers=num_workers or one.num_workers) for one in self.setups)
        able = (one for one in setups if scene.load.rate <= speed * self.candidates.capacity(one))
        return next((one for one in able if keeps(scene, one)), None)

    def highest_rate(self) -> tuple[float | None, Setup | None]:
        """Bisect the share of the load that can be kept."""
        low, high = _LEAST_SHARE, 1.0
        best = self.keeper(share=low)
        if best is None:
            return None, None
        while high / low > _APART:
            middle = sqrt(low * high)
            kept = self.keeper(share=middle)
            low, high = (middle, high) if kept else (low, middle)
            best = kept or best
        return low * self.scene.load.rate, best

    def fewest_workers(self, max_workers: int) -> int | None:
        """Double the workers until the objectives are kept, then bisect between the last two numbers."""
        low, high = max_workers, 2 * max_workers
        while self.keeper(num_workers=high) is None:
            low, high = high, 2 * high
            if high > _MOST_TIMES * max_workers:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.keeper(num_workers=middle) else (middle, high)
        return high

    def least_speed(self) -> float | None:
        """Double the speed until the objectives are kept, then bisect between the last two."""
        low, high = 1.0, 2.0
        while self.keeper(speed=high) is None:
            low, high = high, 2 * high
            if high > _MOST_TIMES:
                return None
        while high / low > _APART:
            middle = sqrt(low * high)
            low, high = (low, middle) if self.keeper(speed=middle) else (middle, high)
        return high


# ----------------------------------------------------------------------------------------------- sentences


def _sentences(found: Nearest, scene: Scene, candidates: Candidates, max_workers: int) -> Iterator[str]:
    rate = f"{format_count(scene.load.rate)}/s"
    allowed = f"{'up to ' * (max_workers > 1)}{counted(max_workers, 'worker')}"
    if not scene.objectives:
        yield f"No setup with {allowed} carries {rate}; {describe_setup(found.setup)} comes nearest."
    else:
        promised = " and ".join(map(str, scene.objectives))
        yield f"No setup with {allowed} keeps {promised} at {rate}."
        reached = ", ".join(
            f"p{one.quantile * 100:g} of {among(latency, format_duration)}"
            for one, latency in zip(scene.objectives, found.latencies_s, strict=True)
        )
        yield f"The nearest at that rate is {describe_setup(found.setup)}: {reached}."
    yield _at_lower_rate(found, scene, candidates)
    yield _to_change(found, max_workers)


def _at_lower_rate(found: Nearest, scene: Scene, candidates: Candidates) -> str:
    if found.rate is None or found.rate_setup is None:
        return f"It is kept at no rate that was tried: {_alone(scene, candidates)}."
    return f"It is kept up to about {format_count(found.rate)}/s, with {describe_setup(found.rate_setup)}."


def _alone(scene: Scene, candidates: Candidates) -> str:
    """Say how long items take without any wait, the longest among them."""
    quantile = max(
        (one.quantile for one in scene.objectives), key=lambda each: _over(scene, candidates, each), default=0.5
    )
    single_s = format_duration(candidates.single_s(quantile))
    said = f"without any wait p{quantile * 100:g} of single items is already {single_s}"
    if candidates.longest == candidates.typical:
        return said
    cost = candidates.subject.cost.clipped()
    longest_s, typical_s = (format_duration(cost.time_s(1, one)) for one in (candidates.longest, candidates.typical))
    return f"{said} (one of {candidates.longest} tokens takes {longest_s}, a typical one {typical_s})"


def _over(scene: Scene, candidates: Candidates, quantile: float) -> float:
    limit_s = next(one.latency_s for one in scene.objectives if one.quantile == quantile)
    return candidates.single_s(quantile) / limit_s


def _to_change(found: Nearest, max_workers: int) -> str:
    ways = []
    if found.num_workers is not None:
        ways.append(f"about {found.num_workers} workers rather than {max_workers}")
    if found.speed is not None:
        ways.append(f"a device about {found.speed:.2g} times as fast")
    if not ways:
        return (
            f"Neither {_MOST_TIMES} times the workers nor a device {_MOST_TIMES} times as fast would keep it: the "
            "objective itself has to change."
        )
    said = f"At the whole rate it would take {' or '.join(ways)}"
    return f"{said}; more workers alone would not do." if found.num_workers is None else f"{said}."
