"""What queueing theory says of a plan, beside what was simulated; and why it says nothing, where it does not hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.plan.assumptions import chain_of, check_assumptions
from carpool.units import format_durations

if TYPE_CHECKING:
    from carpool.plan.predict import Prediction
    from carpool.plan.setup import Setup
    from carpool.plan.subject import Subject
    from carpool.plan.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Theory:
    """The exact solution for one worker with Poisson arrivals, in the long run.

    Args:
        mean_latency_s: Arrival to answer; None where the solution does not hold.
        mean_batch_size: Items a batch; None likewise.
        load: The rate over the largest sustainable one; None likewise.
        broken: The assumptions that do not hold, and what is the case.
    """

    mean_latency_s: float | None = None
    mean_batch_size: float | None = None
    load: float | None = None
    broken: tuple[str, ...] = ()

    def sentence(self, prediction: Prediction, *, transport_s: float = 0.0) -> str:
        """Say how the simulation compares with it; empty where there is nothing to compare with."""
        if self.mean_latency_s is None:
            return ""
        exact, simulated = format_durations(self.mean_latency_s + transport_s, prediction.mean_s.value)
        return (
            f"Queueing theory has an exact answer here, which no simulation enters: a mean latency of {exact}, beside "
            f"{simulated} simulated, at {self.load:.0%} of the largest rate that can be sustained."
        )


def theory_of(setup: Setup, workload: Workload, subject: Subject) -> Theory:
    """Solve a setup exactly, or name every assumption of the solution that does not hold."""
    if broken := check_assumptions(setup, workload, subject):
        return Theory(broken=broken)
    chain = chain_of(setup, workload, subject)
    return Theory(mean_latency_s=chain.mean_latency_s, mean_batch_size=chain.mean_batch_size, load=chain.load)
