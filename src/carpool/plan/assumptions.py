"""Whether queueing theory's exact answer holds for a setup and a workload, and which assumption fails where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.core.budget import Budget
from carpool.core.objective_cap import longest_batch_s
from carpool.errors import ConfigError, InvalidItem
from carpool.plan.analytic import Chain, largest_rate, solve
from carpool.plan.predict import fitted
from carpool.plan.process import Poisson
from carpool.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.core.cost import TimeModel
    from carpool.core.policy import Policy
    from carpool.plan.setup import Setup
    from carpool.plan.subject import Subject
    from carpool.plan.workload import Workload

# Share of the batches at whose end the queue may be longer than its limit, before refusals show in the means.
_MOST_OVERFLOWS = 1e-6


def check_assumptions(
    setup: Setup, workload: Workload, subject: Subject, *, cost: TimeModel | None = None
) -> tuple[str, ...]:
    """Name the assumptions of the exact solution that do not hold.

    Priorities are not among them: they change who waits, but neither the batches nor the means over all items. Nor are
    limits of tokens and memory: with one length they are a smaller `max_batch_size`.

    Args:
        setup: The policy and the workers.
        workload: What arrives; lengths beyond the model's count as its longest.
        subject: The measured model.
        cost: Another cost than the one that was measured.

    Returns:
        For each, what is assumed and what is the case; nothing where the solution is exact.
    """
    workload, _ = workload.clipped(subject.max_length)
    budget = _budget(setup, subject, cost)
    broken = (
        *_broken_by_workload(workload),
        *_broken_by_setup(setup),
        *_broken_by_objective(setup.policy, _times_s(budget, _length(workload))),
        *_broken_by_lengths(workload, budget),
        *_broken_by_pauses(subject),
    )
    return broken or tuple(_broken_by_rate(workload.rate, budget, _length(workload), subject.call_spread))


def chain_of(setup: Setup, workload: Workload, subject: Subject, *, cost: TimeModel | None = None) -> Chain:
    """Solve a setup under a workload, exactly as far as the cost model goes.

    Args:
        setup: The policy and the worker.
        workload: What arrives; lengths beyond the model's count as its longest.
        subject: The measured model; its calls scatter as they did when it was measured.
        cost: Another cost than the one that was measured.

    Raises:
        ConfigError: An assumption does not hold; the message names all that do not.
        OutOfRange: The queue is so long that the chain has too many states.
    """
    if broken := check_assumptions(setup, workload, subject, cost=cost):
        raise ConfigError(f"the exact solution supposes that {'; and that '.join(broken)}: simulate instead")
    workload, _ = workload.clipped(subject.max_length)
    times_s = _times_s(_budget(setup, subject, cost), _length(workload))
    return solve(workload.rate, times_s, call_spread=subject.call_spread)


def _budget(setup: Setup, subject: Subject, cost: TimeModel | None) -> Budget:
    return Budget(fitted(setup.policy, subject), cost or subject.cost.clipped())


def _length(workload: Workload) -> int:
    return max(workload.replayed or workload.lengths)


def _times_s(budget: Budget, length: int) -> list[float]:
    """Return the seconds of batches of 1, 2, ... items, up to the most that the limits allow."""
    padded = budget.padded_length(length)
    most, _ = budget.most_items(padded)
    return [budget.time_s(num, padded) for num in range(1, most + 1)]


def _broken_by_workload(workload: Workload) -> Iterator[str]:
    if not isinstance(workload.arrivals, Poisson):
        yield f"arrivals are Poisson, and these are {workload.arrivals.describe()}"
    if workload.deadline_s is not None:
        yield f"items have no deadline, and these have one of {format_duration(workload.deadline_s)}"
    if workload.patience_s is not None:
        yield f"clients wait for their answer, and these leave after {format_duration(workload.patience_s)}"


def _broken_by_setup(setup: Setup) -> Iterator[str]:
    if setup.num_workers > 1:
        yield f"there is one worker, and there are {setup.num_workers}"
    if setup.policy.max_wait_s > 0:
        yield f"a free worker takes what waits, and max_wait_s is {format_duration(setup.policy.max_wait_s)}"


def _broken_by_objective(policy: Policy, times_s: list[float]) -> Iterator[str]:
    longest_s = longest_batch_s(policy.objectives_s)
    if times_s[-1] > longest_s:
        yield f"only max_batch_size bounds a batch, and the objective holds it to {format_duration(longest_s)}"


def _broken_by_pauses(subject: Subject) -> Iterator[str]:
    if any(extra_s for _, extra_s in subject.idle_penalties):
        most_s = max(extra_s for _, extra_s in subject.idle_penalties)
        yield f"a batch takes as long after a pause as at once, and pauses add up to {format_duration(most_s)}"


def _broken_by_lengths(workload: Workload, budget: Budget) -> Iterator[str]:
    lengths = workload.replayed or workload.lengths
    padded = sorted({budget.padded_length(length) for length in lengths})
    if len(padded) > 1:
        yield f"all items cost alike, and they are padded to {len(padded)} lengths from {padded[0]} to {padded[-1]}"
    try:
        budget.check(max(lengths))
    except InvalidItem as error:
        yield f"every item is accepted, and {error}"


def _broken_by_rate(rate: float, budget: Budget, length: int, call_spread: tuple[float, ...]) -> Iterator[str]:
    times_s = _times_s(budget, length)
    largest = largest_rate(times_s, call_spread=call_spread)
    cap = counted(len(times_s), "item")
    if rate >= largest:
        yield f"the queue has an end, and {rate:g} a second are not below the {largest:g} of batches of up to {cap}"
        return
    queue, most = solve(rate, times_s, call_spread=call_spread).queue, budget.policy.max_queue
    if (share := 1.0 - float(queue.lengths(most + 1).sum())) > _MOST_OVERFLOWS:
        yield f"the queue has room for all, and max_queue {most} is exceeded before {share:.2g} of the batches"
