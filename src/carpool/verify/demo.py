"""The main job on one model: profile, plan, serve with batching off and on, load both alike, and compare."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.policy import Policy
from carpool.loadgen.clock import run_in_loop
from carpool.loadgen.discover import discover
from carpool.loadgen.http import JSON_HEADERS, Requests
from carpool.loadgen.run import ClosedLoad, blocking
from carpool.loadgen.stats import summarise
from carpool.plan.arrivals import poisson
from carpool.plan.changed_cost import ChangedCost
from carpool.plan.predict import predict
from carpool.plan.setup import Setup
from carpool.plan.stream import Stream
from carpool.plan.workload import Poisson, Workload
from carpool.profile.other_load import OtherLoad
from carpool.profile.report import write_report
from carpool.profile.run import profile_target
from carpool.signals.objective import Objective
from carpool.verify.beside import beside
from carpool.verify.compare import Comparison, Trial
from carpool.verify.measured import measured_figures
from carpool.verify.scrape import batch_figures
from carpool.verify.server import RunningServer, serving
from carpool.verify.transport import Overheads, added_by_rests_s, overheads
from carpool.verify.window import drive_alone, drive_stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from carpool.plan.predict import Prediction
    from carpool.plan.subject import Subject
    from carpool.profile.artefact import Profile
    from carpool.profile.options import ProfileOptions
    from carpool.report.progress import Progress
    from carpool.verify.window import Window

OBJECTIVE_TIMES_UNLOADED = 5.0
LONGEST_ANSWER_S = 2.0  # clients give up then, so that an overloaded server is empty again before the next load
CAPACITY_CONNECTIONS = 4
RESTS_S = (0.0, 0.02)  # of the single client: a model that has rested is slower, and under load some calls find it so
MOST_IN_FLIGHT = 4096
BATCHES_AGAINST_ADVICE = 8
NEARLY_ALL = 0.9  # a share of the requests
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
        num_threads: of one operation on a processor; None leaves the library's choice, a thread for each core, which
            the servers' network and the load generator then have to share.
    """

    target: str = "demo:minilm"
    loads: tuple[float, ...] = DEFAULT_LOADS
    window_s: float = 5.0
    seed: int = 0
    num_threads: int | None = None

    def length_s(self, load: float) -> float:
        """Return how long a load lasts."""
        return self.window_s * (2 if load < FEW else 1)


def profile_and_report(target: str, options: ProfileOptions, out: Path, bar: Progress) -> Profile:
    """Profile TARGET and write profile.json, report.html and the pictures; all that was measured is kept."""
    profile = profile_target(target, options, bar)
    write_report(profile, out)
    return profile


@dataclass(frozen=True, slots=True)
class Site:
    """A running server and what to send it."""

    server: RunningServer
    requests: Requests
    setup: Setup

    @property
    def batching(self) -> bool:
        """Whether it batches."""
        return self.setup.policy.max_batch_size > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardsticks:
    """What the unbatched server shows, before anything is planned or compared.

    Args:
        objective: five times its median latency while unloaded.
        capacity: requests a second that it does flat out.
        alone: what a single client found of the way to the batcher and back, and of the pace of batches.
    """

    objective: Objective
    capacity: float
    alone: Overheads

    @property
    def patience_s(self) -> float:
        """How long clients wait."""
        return max(LONGEST_ANSWER_S, 2 * self.objective.latency_s)


@contextmanager
def unbatched(profile: Path, options: DemoOptions) -> Iterator[Site]:
    """Serve the profiled model without batching while the block runs.

    Raises:
        CarpoolError: the server could not be started.
    """
    threads = () if options.num_threads is None else ("--threads", str(options.num_threads))
    with serving(options.target, "--no-batching", "--profile", str(profile), *threads) as server:
        yield _site(server, Setup(policy=Policy(max_batch_size=1)), options)


def yardsticks(site: Site, subject: Subject, window_s: float) -> Yardsticks:
    """Fix the objective from the unloaded latency, and find the capacity, before anything is compared.

    Raises:
        CarpoolError: the server does not answer.
    """
    alone = drive_alone(site.server, site.requests, duration_s=window_s / 2, pauses_s=RESTS_S)
    added_s = added_by_rests_s(RESTS_S, subject.idle_penalties)
    flat_out = ClosedLoad(requests=site.requests, connections=CAPACITY_CONNECTIONS, duration_s=window_s / 2)
    return Yardsticks(
        objective=Objective(0.99, OBJECTIVE_TIMES_UNLOADED * summarise(alone.load).latency_s["p50"].value),
        capacity=summarise(blocking(flat_out)).sustained_rate,
        alone=overheads(alone, subject.call_spread, rest_s=added_s),
    )


def planned_load(subject: Subject, found: Yardsticks, options: DemoOptions) -> Workload:
    """Return what the plan is made for: the highest load at which large batches would answer nearly all in time.

    At more than can be served every setup is as bad as another, and at less none has much to do.

    Args:
        subject: the measured model.
        found: what the loads and the objective are held against.
        options: the loads.
    """
    largest = Setup(policy=Policy(max_batch_size=max(subject.cost.batch_sizes)))
    feasible = (
        load
        for load in sorted(options.loads, reverse=True)
        if _predict(subject, largest, found, load, options).attainment.value >= NEARLY_ALL
    )
    return _load(subject, next(feasible, min(options.loads)) * found.capacity)


def _load(subject: Subject, rate: float, patience_s: float | None = None) -> Workload:
    return Workload(arrivals=Poisson(rate=rate), lengths=subject.example_lengths, patience_s=patience_s)


@contextmanager
def planned(plan_file: Path, setup: Setup, options: DemoOptions) -> Iterator[Site]:
    """Serve a plan while the block runs; where it advises against batching, so much of it as shows why.

    Raises:
        CarpoolError: the server could not be started.
    """
    flags: tuple[str, ...] = ()
    if setup.policy.max_batch_size == 1:
        setup = replace(setup, policy=replace(setup.policy, max_batch_size=BATCHES_AGAINST_ADVICE))
        flags = ("--max-batch-size", str(BATCHES_AGAINST_ADVICE))
    with serving(str(plan_file), *flags) as server:
        yield _site(server, setup, options)


def _site(server: RunningServer, setup: Setup, options: DemoOptions) -> Site:
    made_up = run_in_loop(discover(server.url, model=None, api=None, seed=options.seed, headers=JSON_HEADERS))
    return Site(server, made_up, setup)


def compare_served(
    off: Site, on: Site, *, subject: Subject, found: Yardsticks, options: DemoOptions, bar: Progress
) -> Comparison:
    """Predict what two servers will do, and drive both with the same open-loop Poisson arrivals.

    They take turns at every load, so that a drift of the machine hits both alike.

    Args:
        off: does not batch.
        on: does.
        subject: the measured model.
        found: what the loads and latencies are held against.
        options: the loads.
        bar: told of every load that a server had.

    Raises:
        CarpoolError: a server stopped answering.
    """
    bar.note("predicting")
    predictions = {
        (site.batching, load): _predict(subject, site.setup, found, load, options)
        for site in (off, on)
        for load in options.loads
    }
    others = OtherLoad()
    pairs = list(_pairs((off, on), found, predictions, options, bar))
    return Comparison(
        objective=found.objective,
        capacity=found.capacity,
        off=tuple(pair[0] for pair in pairs),
        on=tuple(pair[1] for pair in pairs),
        pace=found.alone.pace,
        other_load_cores=others.cores(),
        interrupted=len(pairs) < len(options.loads),
    )


def _predict(subject: Subject, setup: Setup, found: Yardsticks, load: float, options: DemoOptions) -> Prediction:
    return predict(
        subject,
        _load(subject, load * found.capacity, found.patience_s),
        setup,
        objectives=(found.objective,),
        window_s=options.length_s(load),
        seed=options.seed,
        cost=ChangedCost(measured=subject.cost.clipped(), time_factor=found.alone.pace or 1.0),
        transport_s=found.alone.transport_s,
    )


def _pairs(
    sites: tuple[Site, Site],
    found: Yardsticks,
    predictions: Mapping[tuple[bool, float], Prediction],
    options: DemoOptions,
    bar: Progress,
) -> Iterator[tuple[Trial, Trial]]:
    """Give both servers each load, taking turns at who is first; end early, with whole pairs only, on Ctrl-C."""
    for turn, load in enumerate(options.loads):
        pair: dict[bool, Trial] = {}
        for site in sites if turn % 2 == 0 else sites[::-1]:
            bar.note(f"{load * found.capacity:.0f} requests a second, batching {'on' if site.batching else 'off'}")
            window = _drive(site, load * found.capacity, found, options.length_s(load), options.seed)
            if window.load.interrupted:
                return
            pair[site.batching] = _trial(site, load, window, found, predictions[site.batching, load])
            bar.advance()
        yield pair[False], pair[True]


def _drive(site: Site, rate: float, found: Yardsticks, window_s: float, seed: int) -> Window:
    """Offer one rate to one server; return what its clients and what it itself saw."""
    times_s = poisson(rate, window_s, np.random.default_rng(seed))
    stream = Stream(times_s=times_s, lengths=np.ones(len(times_s), dtype=np.int64), window_s=window_s)
    return drive_stream(site.server, site.requests, stream, timeout_s=found.patience_s, max_in_flight=MOST_IN_FLIGHT)


def _trial(site: Site, load: float, window: Window, found: Yardsticks, prediction: Prediction) -> Trial:
    rate = load * found.capacity
    return Trial(
        batching=site.batching,
        rate=rate,
        load=load,
        summary=summarise(window.load, found.objective, asked_rate=rate),
        batches=batch_figures(window.counts),
        figures=beside(prediction, [measured_figures(window, site.setup, (found.objective,))]),
    )
