"""A plan held against life: serve it, load it as planned, and put what was predicted beside what was measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carpool.plan.setup import Setup
from carpool.plan.subject import Subject
from carpool.plan.workload import Workload
from carpool.plan.workload_table import arrivals_of, from_settings
from carpool.profile.artefact import Profile
from carpool.profile.machine import describe_machine
from carpool.profile.validity import machine_differences
from carpool.signals.objective import Objective
from carpool.verify.again import profile_of
from carpool.verify.site import on_loopback
from carpool.verify.trial import Findings, Trial, TrialOptions

if TYPE_CHECKING:
    from carpool.config.settings import ServeSettings
    from carpool.report.progress import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A plan beside what came of it.

    Args:
        file: the plan's carpool.toml.
        profile: what was predicted from.
        measured_again: whether that was measured for this check.
        changed: whether it is another profile than the plan was made from.
        differences: between the machine that it was measured on and this one, one a line.
        workload: what arrived.
        cut: what was cut of it to fit the model, as a sentence; empty for nothing.
        have_lengths: whether the requests had the lengths of the workload.
        setup: what served it.
        objectives: what latencies are held against.
        options: for how long, and how often.
        findings: what came of it.
    """

    file: Path
    profile: Profile
    measured_again: bool
    changed: bool
    differences: tuple[str, ...]
    workload: Workload
    cut: str
    have_lengths: bool
    setup: Setup
    objectives: tuple[Objective, ...]
    options: TrialOptions
    findings: Findings

    @property
    def interrupted(self) -> bool:
        """Whether it was stopped before the last window."""
        return len(self.findings.observed) < self.options.num_windows


def check_plan(
    file: Path,
    settings: ServeSettings,
    options: TrialOptions,
    *,
    again_s: float | None,
    out: Path | None,
    bar: Progress,
) -> Check:
    """Serve a plan on loopback, drive it with the planned load, and hold the prediction against it.

    Args:
        file: the plan's carpool.toml.
        settings: what it says.
        options: for how long, and how often.
        again_s: how long to measure the model again before; None takes the profile as it is.
        out: where a profile that is measured again is kept; None for nowhere.
        bar: told the seconds that have gone.

    Raises:
        CarpoolError: there is nothing to predict from, or the server failed.
        KeyboardInterrupt: stopped before a window was whole.
    """
    arrivals_of(settings.workload)  # what is wrong with it is told before anything is measured
    with profile_of(settings, again_s=again_s, out=out, bar=bar) as (profile, path):
        subject = Subject.of(profile)
        planned = from_settings(settings.workload, lengths=subject.example_lengths)
        workload, cut = planned.clipped(subject.max_length)
        bar.note("starting the server")
        with on_loopback(file, settings, path, seed=options.seed) as site:
            trial = Trial(
                site=site,
                subject=subject,
                workload=workload,
                setup=Setup(policy=settings.policy, num_workers=settings.model.num_workers or 1),
                objectives=objectives_of(settings),
                options=options,
                bar=bar,
            )
            return Check(
                file=file,
                profile=profile,
                measured_again=again_s is not None,
                changed=again_s is None and _changed(settings, path),
                differences=_differences(settings, profile),
                workload=workload,
                cut=cut,
                have_lengths=site.bodies.have_lengths,
                setup=trial.setup,
                objectives=trial.objectives,
                options=options,
                findings=trial.run(),
            )


def objectives_of(settings: ServeSettings) -> tuple[Objective, ...]:
    """Return the latencies that a server's settings promise."""
    return tuple(
        Objective(float(name.removeprefix("p")) / 100, latency_s) for name, latency_s in settings.objectives_s.items()
    )


def _changed(settings: ServeSettings, profile: Path) -> bool:
    """Tell whether a profile is another one than the plan says that it was made from."""
    planned = settings.profile_sha256
    return planned is not None and hashlib.sha256(profile.read_bytes()).hexdigest() != planned


def _differences(settings: ServeSettings, profile: Profile) -> tuple[str, ...]:
    """Say in what the machine that was profiled differs from this one, as the plan is served on it."""
    profiled, model = profile.machine, settings.model
    here = describe_machine(model.device or profiled.device, model.dtype or profiled.dtype, model.num_threads)
    return machine_differences(profiled, here)
