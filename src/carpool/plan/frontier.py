"""What latency a setup has as its load rises: the frontier between latency and throughput."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from carpool.plan.search import FrontierPoint
from carpool.plan.words import describe_setup

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.plan.candidates import Candidates
    from carpool.plan.predict import Prediction
    from carpool.plan.scene import Scene
    from carpool.plan.setup import Setup

# Shares of what a setup can carry at most.
_LOADS = (0.1, 0.3, 0.5, 0.65, 0.8, 0.9)
_NUM_RUNS = 3
# A load this near to the planned one is left out where that one is known from more windows.
_NEAR = 0.15


def frontier(
    scene: Scene,
    candidates: Candidates,
    chosen: Setup,
    *,
    known: Callable[[Setup], Prediction | None] = lambda _: None,
    watch: Callable[[str], object] = lambda _: None,
) -> tuple[FrontierPoint, ...]:
    """Predict the plan beside no batching and the largest batches, from little load to nearly all that each carries.

    Args:
        scene: Short windows.
        candidates: What sizes there are.
        chosen: The plan.
        known: Gives what a setup is predicted to do under the planned load, where more windows have told it.
        watch: Told what is being looked at.
    """
    points = []
    for label, setup in _setups(candidates, chosen).items():
        watch(f"latency over the load: {label}")
        rates = [share * candidates.capacity(setup) for share in _LOADS]
        prediction = known(setup)
        if prediction is not None:
            points.append(FrontierPoint(label=label, setup=setup, rate=scene.load.rate, prediction=prediction))
            rates = [rate for rate in rates if abs(rate / scene.load.rate - 1) > _NEAR]
        for rate in rates:
            at_rate = scene.scaled(rate / scene.load.rate)
            prediction = at_rate.together([at_rate.figures(setup, number) for number in range(_NUM_RUNS)])
            points.append(FrontierPoint(label=label, setup=setup, rate=rate, prediction=prediction))
    return tuple(points)


def _setups(candidates: Candidates, chosen: Setup) -> dict[str, Setup]:
    """Return setups by their names, each of them once."""
    sizes = candidates.sizes()
    single, largest = (candidates.of_size(size, chosen.num_workers) for size in (sizes[0], sizes[-1]))
    named = {"the plan": chosen}
    for setup in (single, largest):
        if setup not in named.values():
            named[describe_setup(replace(setup, num_workers=1)).removesuffix(", on 1 worker")] = setup
    return named
