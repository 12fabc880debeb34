"""A measured model, a load and a plan, made up here, for tests of what is said about plans."""

from __future__ import annotations

from functools import cache

from carpool.core.policy import Policy
from carpool.cost.model import CostModel, Measurement, MemoryPoint, fit_cost_model
from carpool.plan.binding import Belongs, Binding
from carpool.plan.memory_trade import memory_trade
from carpool.plan.plan import Plan, PlanOptions
from carpool.plan.predict import predict
from carpool.plan.search import FrontierPoint, Tried
from carpool.plan.setup import Setup
from carpool.plan.slo import Gap, Verdict
from carpool.plan.subject import Subject
from carpool.plan.theory import theory_of
from carpool.plan.what_if import what_if
from carpool.plan.workload import Poisson, Workload
from carpool.signals.objective import Objective

OVERHEAD_S, TOKEN_S = 4e-3, 1e-4
LIBRARIES, WEIGHTS, TOKEN_BYTES = 300_000_000, 100_000_000, 20_000
LENGTHS = (8, 16, 30, 60)
OBJECTIVE = Objective.parse("p99=100ms")


def cost_model(*, memory: bool = True) -> CostModel:
    """`t = 4 ms + 0.1 ms` a padded token, and memory of 400 MB and 20 kB a padded token."""
    shapes = [(batch_size, length) for length in (8, 16, 32, 64) for batch_size in (1, 2, 4, 8, 16, 32)]
    times = [
        Measurement(batch_size=b, length=n, time_s=(t := OVERHEAD_S + TOKEN_S * b * n), low_s=0.99 * t, high_s=1.01 * t)
        for b, n in shapes
    ]
    peaks = [
        MemoryPoint(batch_size=b, length=n, peak_bytes=LIBRARIES + WEIGHTS + TOKEN_BYTES * b * n) for b, n in shapes
    ]
    return fit_cost_model(times, peaks if memory else (), measured_on={"device": "cpu", "dtype": "float32"})


def subject(*, memory: bool = True, limit_bytes: int | None = 1_000_000_000) -> Subject:
    """A model of 25 million parameters on a device with 1 GB."""
    return Subject(
        target="demo:null",
        name="null",
        cost=cost_model(memory=memory),
        example_lengths=LENGTHS,
        max_length=64,
        memory_limit_bytes=limit_bytes if memory else None,
        weights_bytes=WEIGHTS,
    )


def workload(rate: float = 100.0, lengths: tuple[int, ...] = LENGTHS) -> Workload:
    """Poisson arrivals."""
    return Workload(arrivals=Poisson(rate=rate), lengths=lengths)


@cache
def plan(*, price: float | None = 1.5, rate: float = 100.0) -> Plan:
    """A plan whose figures are simulated, and whose words are made up."""
    model, load, chosen = subject(), workload(rate), Setup(policy=Policy(max_batch_size=8))
    options = PlanOptions(price_per_hour=price, window_s=4.0, num_runs=3)
    found = predict(model, load, chosen, objectives=(OBJECTIVE,), window_s=4.0, num_runs=3)
    rows = what_if(model, load, chosen, found, objectives=(OBJECTIVE,), price_per_hour=price, num_runs=3)
    frontier = tuple(
        FrontierPoint(
            label=f"up to {size}",
            setup=(setup := Setup(policy=Policy(max_batch_size=size))),
            rate=float(at),
            prediction=predict(model, workload(at), setup, window_s=4.0, num_runs=1),
        )
        for size in (1, 8)
        for at in (40, 80, 400)
    )
    return Plan(
        target=model.target,
        name=model.name,
        workload=load.describe(),
        rate=rate,
        objectives=(OBJECTIVE,),
        options=options,
        chosen=chosen,
        prediction=found,
        verdict=Verdict.MET,
        gaps=(_gap(found.at_objectives_s[0], found.attainment),),
        nearest=None,
        tried=(Tried(setup=chosen, prediction=found, verdict=Verdict.MET, tie=True),),
        frontier=frontier,
        binding=(Binding(limit="arrivals", why="it is idle half of the time", remedy="more arrivals"),),
        belongs=Belongs(answer=True, why="Single items alone would be answered at half the rate."),
        what_if=rows,
        memory_trade=memory_trade(model, LENGTHS),
        theory=theory_of(chosen, load, model),
        sentences=("Serve batches of up to 8.", "It is idle half of the time."),
        doubts=("Another program was running.",),
    )


def _gap(predicted_s: object, attainment: object) -> Gap:
    return Gap(
        objective=OBJECTIVE,
        predicted_s=predicted_s,  # type: ignore[arg-type]
        verdict=Verdict.MET,
        attainment=attainment,  # type: ignore[arg-type]
        sentence="p99 is half of what was promised.",
    )
