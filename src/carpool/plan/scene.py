"""Everything that a simulated window needs but the setup: what is compared in one scene meets the same windows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from carpool.core.cost import TimeModel
from carpool.plan.figures import Figures, figures_of
from carpool.plan.predict import Drawable, Prediction, predict, replicate, together
from carpool.plan.subject import Subject
from carpool.signals.objective import Objective

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.plan.setup import Setup
    from carpool.plan.simulate import Run


class Load(Drawable, Protocol):
    """A workload whose rate is known and can be changed: what `carpool.plan.workload.Workload` is."""

    @property
    def rate(self) -> float:
        """Items a second, on average."""
        ...

    def scaled(self, factor: float) -> Load:
        """Return the same workload with so many times the rate."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A measured model under a load.

    Args:
        subject: The measured model.
        load: What arrives.
        objectives: Latencies that are promised.
        window_s: Seconds of a simulated window.
        seed: Draws the windows.
        transport_s: Seconds that every request spends on its way to the batcher and back.
        cost: Another cost than the one that was measured, for a question of what would be if.
    """

    subject: Subject
    load: Load
    objectives: tuple[Objective, ...] = ()
    window_s: float
    seed: int = 0
    transport_s: float = 0.0
    cost: TimeModel | None = None

    def run(self, setup: Setup, number: int) -> Run:
        """Simulate one window; the same number is the same window for every setup."""
        return replicate(
            self.subject,
            self.load,
            setup,
            window_s=self.window_s,
            seed=self.seed,
            number=number,
            cost=self.cost,
        )

    def figures(self, setup: Setup, number: int) -> Figures:
        """Simulate one window, and work out its figures."""
        return figures_of(self.run(setup, number), self.objectives, transport_s=self.transport_s)

    def together(self, found: Sequence[Figures]) -> Prediction:
        """Bring the figures of windows together; how latencies are spread is left out."""
        return together(found, self.objectives, window_s=self.window_s)

    def predict(self, setup: Setup, num_runs: int) -> Prediction:
        """Simulate so many windows, and bring them together."""
        return predict(
            self.subject,
            self.load,
            setup,
            objectives=self.objectives,
            window_s=self.window_s,
            num_runs=num_runs,
            seed=self.seed,
            cost=self.cost,
            transport_s=self.transport_s,
        )

    def scaled(self, factor: float) -> Scene:
        """Return the scene with so many times the rate, in windows of as many items or more."""
        return replace(self, load=self.load.scaled(factor), window_s=self.window_s * max(1.0, 1 / factor))
