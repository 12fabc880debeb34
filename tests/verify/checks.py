"""A check whose windows are simulated, for tests of what is said about checks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from carpool.core.policy import Policy
from carpool.plan.setup import Setup
from carpool.report.progress import SilentProgress
from carpool.signals.objective import Objective
from carpool.verify.check import Check
from carpool.verify.trial import Trial, TrialOptions
from tests.plan.plans import subject, workload
from tests.profile.made_up import only, rates
from tests.verify.simulated import SimulatedSite

SETUP = Setup(policy=Policy(max_batch_size=8))


@cache
def check(
    *,
    pace: float = 1.0,
    as_profiled: bool = False,
    loaded_s: float = 0.002,
    num_windows: int = 1,
    again: bool = False,
) -> Check:
    """Check a plan on a site with this pace, and this way there and back under load."""
    options = TrialOptions(duration_s=10.0, num_windows=num_windows, as_profiled=as_profiled)
    objectives = (Objective(0.99, 0.05),)
    trial = Trial(
        site=SimulatedSite(subject(), SETUP, pace=pace, loaded_s=loaded_s),
        subject=subject(),
        workload=workload(),
        setup=SETUP,
        objectives=objectives,
        options=options,
        bar=SilentProgress(),
    )
    return Check(
        file=Path("carpool.toml"),
        profile=only(rates({1: 100.0, 2: 150.0, 4: 200.0, 8: 250.0})).profile(),
        measured_again=again,
        changed=False,
        differences=(),
        workload=workload(),
        cut="",
        have_lengths=True,
        setup=SETUP,
        objectives=objectives,
        options=options,
        findings=trial.run(),
    )
