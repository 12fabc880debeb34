"""What the rounds amount to: medians over them, ratios within each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rig.llm.answers import Agreement
from rig.llm.contenders import CONTENDERS
from rig.llm.figures import LoopFigures, figures
from rig.llm.limit import StepSize, limit_s, products_s, read, schedule
from rig.llm.model import Shape
from rig.llm.work import NUM_SLOTS, SINGLE, Loop, num_output, requests

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig.llm.limit import Rates

OURS = "carpool"
PEERS = tuple(name for name, contender in CONTENDERS.items() if contender.module != "carpool")


@dataclass(slots=True)
class Round:
    """One round, as it is measured.

    Args:
        limit: the rates of the machine, as `rig.llm.limit` prints them.
        batch: what visits with all requests at once found, by engine.
        load: what visits with requests as they come found, by engine.
    """

    limit: dict[str, Any] = field(default_factory=dict)
    batch: dict[str, dict[str, Any]] = field(default_factory=dict)
    load: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All rounds of a run.

    Args:
        rounds: as measured.
        shape: of the model.
        num_requests: of the batch.
        loops: the open loops, by rising rate; none where they were not run.
        seconds: for how long requests come in a loop.
        agreements: how plausible the engines' tokens are.
    """

    rounds: list[Round]
    shape: Shape
    num_requests: int
    loops: Sequence[Loop]
    seconds: float
    agreements: Mapping[str, Agreement]

    def engines(self) -> list[str]:
        """The engines that were measured."""
        return [name for name in CONTENDERS if any(name in one.batch or name in one.load for one in self.rounds)]

    def median(self, get: Callable[[Round], float | None]) -> float | None:
        """The median of a figure over the rounds that have it."""
        values = [value for value in map(get, self.rounds) if value is not None]
        return statistics.median(values) if values else None

    def rate(self, one: Round, engine: str) -> float | None:
        """Output tokens a second where all requests are there."""
        visit = one.batch.get(engine)
        return None if visit is None else num_output(requests(self.num_requests)) / visit["batch"]["seconds"]

    def cpu_ms(self, one: Round, engine: str) -> float | None:
        """CPU milliseconds for an output token where all requests are there."""
        visit = one.batch.get(engine)
        return None if visit is None else 1e3 * visit["batch"]["cpu_s"] / num_output(requests(self.num_requests))

    def single_rate(self, one: Round, engine: str) -> float | None:
        """Output tokens a second of one request alone, its prompt's time included."""
        visit = one.batch.get(engine)
        return None if visit is None else SINGLE[1] / visit["single"]["seconds"]

    def once(self, engine: str, name: str) -> float | None:
        """The median of a figure that each visit with all requests at once has once."""
        return self.median(lambda one: one.batch[engine][name] if engine in one.batch else None)

    def loop(self, one: Round, engine: str, number: int) -> LoopFigures | None:
        """What an open loop found; None where it was not run, or not reached."""
        visit = one.load.get(engine)
        if visit is None or number >= len(visit["loops"]):
            return None
        loop = self.loops[number]
        return figures(loop.requests, loop.due, visit["loops"][number], self.seconds)

    def goodput(self, one: Round, engine: str) -> float | None:
        """The best goodput over the loops."""
        found = [self.loop(one, engine, number) for number in range(len(self.loops))]
        values = [loop.goodput for loop in found if loop is not None]
        return max(values) if values else None

    def limit(self, one: Round, of: Callable[[Sequence[StepSize], Rates], float]) -> float | None:
        """Output tokens a second at a limit of the machine."""
        if not one.limit:
            return None
        work = requests(self.num_requests)
        return num_output(work) / of(list(schedule(work, NUM_SLOTS)), read(one.limit))

    def best_possible(self, one: Round) -> float | None:
        """Output tokens a second at the limit."""
        return self.limit(one, lambda steps, rates: limit_s(steps, self.shape, rates))

    def products_alone(self, one: Round) -> float | None:
        """Output tokens a second where steps are nothing but their matrix products."""
        return self.limit(one, products_s)

    def single_limit(self, one: Round) -> float | None:
        """Tokens a second of one sequence at the limit, halfway through its tokens."""
        if not one.limit:
            return None
        step = StepSize(1, 1, SINGLE[0] + SINGLE[1] // 2)
        return 1 / limit_s([step], self.shape, read(one.limit))


def ratios(results: Results) -> dict[str, float | None]:
    """The figures that matter: medians over the rounds of ratios within a round; None where something was not run."""

    def over(get: Callable[[Round, str], float | None], *peers: str) -> float | None:
        def ratio(one: Round) -> float | None:
            there = [value for peer in peers if (value := get(one, peer)) is not None]
            return _divided(get(one, OURS), max(there, default=None))

        return results.median(ratio)

    def share_of(limit: Callable[[Round], float | None]) -> float | None:
        return results.median(lambda one: _divided(results.rate(one, OURS), limit(one)))

    return {
        "vs_vllm": over(results.rate, "vllm"),
        "vs_openvino": over(results.rate, "openvino"),
        "vs_openvino_u8": over(results.rate, "openvino_u8"),
        "vs_transformers": over(results.rate, "transformers"),
        "vs_static": over(results.rate, "static"),
        "vs_limit": share_of(results.best_possible),
        "vs_products": share_of(results.products_alone),
        "batch_1_vs_best": over(results.single_rate, *PEERS),
        "batch_1_vs_vllm": over(results.single_rate, "vllm"),
        "deterministic_vs_default": results.median(
            lambda one: _divided(results.rate(one, "deterministic"), results.rate(one, OURS))
        ),
        "goodput_vs_vllm": over(results.goodput, "vllm"),
        "goodput_vs_openvino": over(results.goodput, "openvino"),
        "goodput_vs_best": over(results.goodput, *PEERS),
        "p99_itl_vs_best": results.median(lambda one: _itl_ratio(results, one)),
    }


def _divided(value: float | None, by: float | None) -> float | None:
    return value / by if value is not None and by else None


def _itl_ratio(results: Results, one: Round) -> float | None:
    """Our p99 of the gaps between tokens over the best peer's, at the highest load that we and a peer kept up with."""
    for number in reversed(range(len(results.loops))):
        found = {name: results.loop(one, name, number) for name in (OURS, *PEERS)}
        kept = {name: loop.itl_p99_s for name, loop in found.items() if loop and not loop.num_unfinished}
        if OURS in kept and len(kept) > 1:
            return kept.pop(OURS) / min(kept.values())
    return None
