"""The same load served in other ways: what each choice would buy, cost and need, side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.budget import Budget
from carpool.plan.changed_cost import ChangedCost
from carpool.plan.memory_trade import weights_bytes
from carpool.plan.predict import Drawable, Interval, Prediction, fitted, predict
from carpool.plan.setup import Setup
from carpool.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.core.policy import Policy
    from carpool.plan.subject import Subject
    from carpool.signals.objective import Objective

_SECONDS_AN_HOUR = 3600.0
_MILLION = 1_000_000
_NUM_LENGTHS = 2000  # that the shortest, the longest and the middle one are taken from
_TRIAL_WAIT = 0.5  # of an item's own time, where the plan has no wait
_FASTER, _LARGER = "a device twice as fast", "a model twice as large"


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIfRow:
    """One way to serve the load.

    Args:
        name: What is done.
        setup: The policy and the workers.
        chosen: Whether it is the plan.
        prediction: What it would do; None where it can't be done, or where nothing is known about it.
        why_not: Why there is no prediction; empty where there is one.
        assumes: What has to be true for it; empty for nothing beyond the plan's own.
        memory_bytes: Most memory that one worker needs; None where memory was not measured.
        cost_per_million: Of a million answered items; None without a price.
    """

    name: str
    setup: Setup
    chosen: bool
    prediction: Prediction | None
    why_not: str = ""
    assumes: str = ""
    memory_bytes: float | None = None
    cost_per_million: Interval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to serve the load, before it is simulated.

    Args:
        name: What is done.
        setup: The policy and the workers.
        cost: What batches cost then.
        chosen: Whether it is the plan.
        assumes: What has to be true for it.
        why_not: Why nothing can be said about it; empty where something can.
    """

    name: str
    setup: Setup
    cost: ChangedCost
    chosen: bool = False
    assumes: str = ""
    why_not: str = ""


def what_if(
    subject: Subject,
    workload: Drawable,
    chosen: Setup,
    prediction: Prediction,
    *,
    objectives: Sequence[Objective] = (),
    memory_limit_bytes: int | None = None,
    price_per_hour: float | None = None,
    window_s: float | None = None,
    num_runs: int | None = None,
    seed: int = 0,
    transport_s: float = 0.0,
    watch: Callable[[str], object] = lambda _: None,
) -> tuple[WhatIfRow, ...]:
    """Predict the plan's neighbours: less, more and other than it, one change at a time.

    Args:
        subject: The measured model.
        workload: What arrives.
        chosen: The plan.
        prediction: What it will do.
        objectives: Latencies that are promised.
        memory_limit_bytes: Most memory of one worker; None for what was allowed when it was measured.
        price_per_hour: Of one worker; None leaves costs out.
        window_s: Seconds of the windows that every row is simulated in, the plan's too; None for the prediction's.
        num_runs: How many of them; None for as many as are behind the prediction.
        seed: Draws them: that of the plan, so that rows differ by what they do.
        transport_s: Seconds that every request spends on its way to the batcher and back.
        watch: Told the name of each row before it is simulated.
    """
    window_s, num_runs = window_s or prediction.window_s, num_runs or prediction.num_runs
    lengths = _typical_lengths(workload, window_s, seed)
    limit = subject.memory_limit_bytes if memory_limit_bytes is None else memory_limit_bytes
    foretell = partial(
        predict,
        subject,
        workload,
        objectives=objectives,
        window_s=window_s,
        num_runs=num_runs,
        seed=seed,
        transport_s=transport_s,
    )
    if (window_s, num_runs) != (prediction.window_s, prediction.num_runs):
        prediction = foretell(chosen)  # rows differ by what they do only where all meet the same windows
    rows, unchanged = [], ChangedCost(measured=subject.cost.clipped())
    for choice in choices(subject, chosen, lengths, limit):
        watch(choice.name)
        if choice.setup == chosen and choice.cost == unchanged:  # the plan, or what comes to the same
            found: Prediction | None = prediction
        else:
            found = None if choice.why_not else foretell(choice.setup, cost=choice.cost)
        rows.append(_row(choice, found, subject, lengths, price_per_hour))
    return tuple(rows)


def row_of(rows: Sequence[WhatIfRow], setup: Setup) -> Prediction | None:
    """Return what a setup does on the measured device, with the measured model; None where no row is of that."""
    found = (row.prediction for row in rows if row.setup == setup and row.name not in {_FASTER, _LARGER})
    return next(found, None)


def _typical_lengths(workload: Drawable, window_s: float, seed: int) -> list[int]:
    """Return lengths that arrive, ascending."""
    drawn = workload.draw(np.random.default_rng(seed), window_s).lengths
    return sorted(drawn[:_NUM_LENGTHS].tolist()) or [1]


def _row(
    choice: Choice,
    prediction: Prediction | None,
    subject: Subject,
    lengths: Sequence[int],
    price_per_hour: float | None,
) -> WhatIfRow:
    known = subject.cost.memory is not None
    cost = None if price_per_hour is None or prediction is None else _cost(prediction, choice.setup, price_per_hour)
    return WhatIfRow(
        name=choice.name,
        setup=choice.setup,
        chosen=choice.chosen,
        prediction=prediction,
        why_not=choice.why_not,
        assumes=choice.assumes,
        memory_bytes=most_memory_bytes(subject, choice, lengths) if known and prediction is not None else None,
        cost_per_million=cost,
    )


def _cost(prediction: Prediction, setup: Setup, price_per_hour: float) -> Interval | None:
    """Return what a million answered items cost: the dearest where fewest are answered."""
    a_second = price_per_hour * setup.num_workers / _SECONDS_AN_HOUR
    rates = prediction.throughput
    if rates.low <= 0:
        return None
    dear, value, cheap = (_MILLION * a_second / rate for rate in (rates.low, rates.value, rates.high))
    return Interval(value=value, low=cheap, high=dear)


def most_memory_bytes(subject: Subject, choice: Choice, lengths: Sequence[int]) -> float:
    """Return the most memory that any batch of a choice can need, over the lengths that arrive."""
    budget = Budget(fitted(choice.setup.policy, subject), choice.cost)
    padded = {budget.padded_length(length) for length in set(lengths)}
    return max(choice.cost.memory_bytes(budget.size(budget.most_items(one)[0]), one) for one in padded)


# -------------------------------------------------------------------------------------------------- the choices


def choices(subject: Subject, chosen: Setup, lengths: Sequence[int], limit_bytes: int | None) -> Iterator[Choice]:
    """Give every way to serve the load that the table compares, one change away from the plan.

    Args:
        subject: The measured model.
        chosen: The plan.
        lengths: Lengths that arrive, ascending.
        limit_bytes: Most memory of one worker; None where it is not known.
    """
    measured = subject.cost.clipped()
    same = ChangedCost(measured=measured)
    policies = _policies(subject, chosen.policy, lengths)
    if chosen.policy not in policies.values():
        yield Choice(name="the plan", setup=chosen, cost=same, chosen=True)
    for name, policy in policies.items():
        yield Choice(
            name=name,
            setup=replace(chosen, policy=policy),
            cost=same,
            chosen=policy == chosen.policy,
            assumes=f"padded to {_listed(policy.length_buckets)} tokens" if policy.length_buckets else "",
        )
    yield Choice(
        name="twice the workers",
        setup=replace(chosen, num_workers=2 * chosen.num_workers),
        cost=same,
        assumes="each worker has a device, or processor cores, and memory of its own, as the measured one had",
    )
    yield Choice(
        name=_FASTER,
        setup=chosen,
        cost=ChangedCost(measured=measured, time_factor=0.5),
        assumes="every batch takes half the time, its overhead too, at the same price an hour",
    )
    yield _half_the_memory(subject, chosen, lengths, limit_bytes)
    yield _twice_the_model(subject, chosen, lengths, limit_bytes)


def _policies(subject: Subject, chosen: Policy, lengths: Sequence[int]) -> dict[str, Policy]:
    """Return policies by name, from none to all of batching's means."""
    typical = lengths[len(lengths) // 2]
    size = chosen.max_batch_size if chosen.max_batch_size > 1 else _knee(subject, typical)
    wait_s = chosen.max_wait_s or float(f"{_TRIAL_WAIT * subject.cost.clipped().time_s(1, typical):.2g}")
    plain = replace(
        chosen,
        max_batch_size=size,
        batch_size_buckets=_up_to(chosen, size),
        max_wait_s=0.0,
        token_budget=None,
        length_buckets=(),
    )
    found = {
        "no batching": replace(plain, max_batch_size=1, batch_size_buckets=()),
        "dynamic batching": plain,
        f"waiting up to {format_duration(wait_s)}": replace(plain, max_wait_s=wait_s),
    }
    buckets = chosen.length_buckets or coarse_buckets(lengths, subject.length_buckets)
    if len(buckets) > 1 and not subject.ragged:
        found["length buckets"] = replace(plain, length_buckets=buckets)
    return found


def _up_to(policy: Policy, size: int) -> tuple[int, ...]:
    """Return the policy's batch size buckets where they reach a size; none where they don't."""
    buckets = policy.batch_size_buckets
    return buckets if buckets and buckets[-1] >= size else ()


def _knee(subject: Subject, length: int) -> int:
    measured = subject.cost.lengths
    return subject.cost.knee(min(max(length, measured[0]), measured[-1]))


def coarse_buckets(lengths: Sequence[int], own: Sequence[int]) -> tuple[int, ...]:
    """Return few lengths to pad to: each twice the one before, from the shortest item to the longest.

    Args:
        lengths: Lengths that arrive, ascending.
        own: What the model itself pads to; buckets are chosen among these where there are any.

    >>> coarse_buckets([9, 30, 100], ()), coarse_buckets([9, 30, 100], (8, 16, 24, 32, 48, 64, 96, 128))
    ((16, 32, 64, 128), (16, 32, 64, 128))
    >>> coarse_buckets([1, 1], ())
    (1,)
    """
    doubled = [1]
    while doubled[-1] < lengths[-1]:
        doubled.append(2 * doubled[-1])
    needed = [size for size in doubled if size >= lengths[0]]
    if not own:
        return tuple(needed)
    return tuple(sorted({next((one for one in own if one >= size), own[-1]) for size in needed}))


def _half_the_memory(subject: Subject, chosen: Setup, lengths: Sequence[int], limit_bytes: int | None) -> Choice:
    choice = Choice(name="half the memory", setup=chosen, cost=ChangedCost(measured=subject.cost.clipped()))
    if limit_bytes is None or subject.cost.memory is None:
        return replace(choice, why_not="how much memory there is, or what a batch needs, is not known")
    found = _within(subject, choice, lengths, limit_bytes // 2, "")
    return replace(found, assumes=f"no change: {found.assumes}") if found.setup == chosen else found


def _twice_the_model(subject: Subject, chosen: Setup, lengths: Sequence[int], limit_bytes: int | None) -> Choice:
    weights = weights_bytes(subject)
    choice = Choice(
        name=_LARGER,
        setup=chosen,
        cost=ChangedCost(measured=subject.cost.clipped(), time_factor=2.0, more_bytes=weights),
    )
    deeper = "twice as deep: every batch takes twice the time"
    if limit_bytes is None or subject.cost.memory is None:
        return replace(choice, assumes=f"{deeper}; whether it fits is not known")
    return _within(
        subject, choice, lengths, limit_bytes, f"{deeper}, weights {format_bytes(weights)} more, an item the same"
    )


def _within(subject: Subject, choice: Choice, lengths: Sequence[int], limit_bytes: int, assumes: str) -> Choice:
    """Keep a choice to a limit of memory, and say what that leaves of its largest batch."""
    within, said = format_bytes(limit_bytes), f"{assumes}; " if assumes else ""
    policy = fitted(choice.setup.policy, subject)
    free = Budget(replace(policy, memory_limit_bytes=None), choice.cost)
    safe_bytes = int(limit_bytes / subject.cost.memory.worst_low) if subject.cost.memory else limit_bytes
    limited = Budget(replace(policy, memory_limit_bytes=safe_bytes), choice.cost)
    padded = sorted({free.padded_length(length) for length in lengths})
    if all(limited.most_items(length) == free.most_items(length) for length in padded):
        return replace(choice, assumes=f"{said}{within} still hold the plan's largest batch")
    at = f" of {padded[-1]} tokens" if padded[-1] > 1 else ""
    kept = replace(choice.setup, policy=replace(choice.setup.policy, memory_limit_bytes=safe_bytes))
    alone = choice.cost.memory_bytes(free.size(1), padded[-1])
    if alone > safe_bytes:
        why_not = f"one item{at} needs {format_bytes(alone)}, and there would be {within}"
        return replace(choice, setup=kept, why_not=f"{said}{why_not}")
    most = limited.most_items(padded[-1])[0]
    return replace(choice, setup=kept, assumes=f"{said}{within} leave room for batches of {most} items{at}")


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
