"""The main job on one model: profile it, serve it with batching off and on, load both alike, and compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import CarpoolError
from carpool.loadgen.clock import run_in_loop
from carpool.loadgen.discover import discover
from carpool.loadgen.http import Requests
from carpool.loadgen.run import ClosedLoad, Load, blocking
from carpool.loadgen.stats import summarise
from carpool.plan.arrivals import poisson
from carpool.profile.other_load import OtherLoad
from carpool.profile.report import write_report
from carpool.profile.run import profile_target
from carpool.signals.objective import Objective
from carpool.units import counted
from carpool.verify.compare import Comparison, Trial
from carpool.verify.scrape import between, read_counts
from carpool.verify.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carpool.loadgen.stats import Summary
    from carpool.profile.artefact import Profile
    from carpool.profile.options import ProfileOptions
    from carpool.report.progress import Progress
    from carpool.verify.scrape import BatchFigures

OBJECTIVE_TIMES_UNLOADED = 5.0
LONGEST_ANSWER_S = 2.0  # clients give up then, so that an overloaded server is empty again before the next load
CAPACITY_CONNECTIONS = 4
DEFAULT_LOADS = (0.1, 0.6, 1.0, 1.5, 2.5)
FEW = 0.5  # below this load a window of usual length holds too few requests for a median, and lasts twice as long


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the demonstration runs.

    Args:
        target: the model.
        loads: offered rates as multiples of the unbatched capacity, rising.
        window_s: seconds of each load; twice as long where few requests arrive.
        seed: of the arrivals; both servers get the same ones.
    """

    target: str = "demo:minilm"
    loads: tuple[float, ...] = DEFAULT_LOADS
    window_s: float = 5.0
    seed: int = 0


def profile_and_report(target: str, options: ProfileOptions, out: Path, bar: Progress) -> Profile:
    """Profile TARGET and write profile.json, report.html and the pictures; all that was measured is kept."""
    profile = profile_target(target, options, bar)
    write_report(profile, out)
    return profile


def batch_limit(profile: Profile) -> int:
    """Return the largest batch to serve: the knee at the typical length, rounded up to a power of two.

    Raises:
        CarpoolError: too little was measured to know the knee.
    """
    if profile.knee is None:
        raise CarpoolError(
            f"the profile of {profile.target} has {counted(len(profile.points), 'point')}, too few to find the knee: "
            "give it more time (--budget)"
        )
    return 1 << max(1, (profile.knee.batch_size - 1).bit_length())


def compare_served(profile: Profile, out: Path, options: DemoOptions, bar: Progress) -> Comparison:
    """Serve the profiled model twice and drive both with the same open-loop Poisson arrivals.

    The two servers take turns at every load, so that a drift of the machine hits both alike.

    Raises:
        CarpoolError: a server could not be started, or stopped answering.
    """
    flags = ("--max-batch-size", str(batch_limit(profile)), "--profile", str(out / "profile.json"))
    bar.note("starting two servers")
    with serving(options.target, "--no-batching") as server_off, serving(options.target, *flags) as server_on:
        off, on = _requests(server_off.url, options.seed), _requests(server_on.url, options.seed)
        bar.note("the unbatched server alone: objective and capacity")
        objective, capacity = _yardsticks(off, options.window_s)
        others = OtherLoad()
        sites = (Site(server_off.url, off, batching=False), Site(server_on.url, on, batching=True))
        pairs = list(_pairs(sites, capacity, objective, options, bar))
        other_load_cores = others.cores()
    return Comparison(
        objective=objective,
        capacity=capacity,
        off=tuple(pair[0] for pair in pairs),
        on=tuple(pair[1] for pair in pairs),
        other_load_cores=other_load_cores,
        interrupted=len(pairs) < len(options.loads),
    )


@dataclass(frozen=True, slots=True)
class Site:
    """A running server and what to send it."""

    url: str
    requests: Requests
    batching: bool


def _pairs(
    sites: tuple[Site, Site], capacity: float, objective: Objective, options: DemoOptions, bar: Progress
) -> Iterator[tuple[Trial, Trial]]:
    """Give both servers each load, taking turns at who is first; end early, with whole pairs only, on Ctrl-C."""
    for turn, load in enumerate(options.loads):
        pair: dict[bool, Trial] = {}
        for site in sites if turn % 2 == 0 else sites[::-1]:
            rate = load * capacity
            bar.note(f"{rate:.0f} requests a second, batching {'on' if site.batching else 'off'}")
            window_s = options.window_s * (2 if load < FEW else 1)
            summary, batches = _drive(site, rate, objective, window_s, options.seed)
            if summary.interrupted:
                return
            pair[site.batching] = Trial(batching=site.batching, rate=rate, load=load, summary=summary, batches=batches)
            bar.advance()
        yield pair[False], pair[True]


def _requests(url: str, seed: int) -> Requests:
    return run_in_loop(discover(url, model=None, api=None, seed=seed, headers={"Content-Type": "application/json"}))


def _yardsticks(requests: Requests, window_s: float) -> tuple[Objective, float]:
    """Fix the objective from the unloaded latency, and find the capacity, before anything is compared."""
    unloaded = summarise(blocking(ClosedLoad(requests=requests, connections=1, duration_s=window_s / 2)))
    flat_out = ClosedLoad(requests=requests, connections=CAPACITY_CONNECTIONS, duration_s=window_s / 2)
    latency_s = OBJECTIVE_TIMES_UNLOADED * unloaded.latency_s["p50"].value
    return Objective(0.99, latency_s), summarise(blocking(flat_out)).sustained_rate


def _drive(site: Site, rate: float, objective: Objective, window_s: float, seed: int) -> tuple[Summary, BatchFigures]:
    """Offer one rate to one server; return what its clients and what it itself saw."""
    load = Load(
        requests=site.requests,
        arrivals=poisson(rate, window_s, np.random.default_rng(seed)),
        duration_s=window_s,
        timeout_s=max(LONGEST_ANSWER_S, 2 * objective.latency_s),
    )
    before = read_counts(site.url)
    summary = summarise(blocking(load), objective, asked_rate=rate)
    return summary, between(before, read_counts(site.url))
