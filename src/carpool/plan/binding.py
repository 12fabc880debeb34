"""What limits the plan now, what would move it, and whether batching belongs here at all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from carpool.plan.race import SMALL_LATENCY
from carpool.plan.slo import Gap, Verdict
from carpool.plan.words import among, changed
from carpool.units import counted, format_count, format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.plan.candidates import Candidates
    from carpool.plan.predict import Prediction
    from carpool.plan.search import SearchResult
    from carpool.signals.objective import Objective

Limit = Literal["arrivals", "overhead", "compute", "memory", "objective"]

# Workers that are busy for less of their time than this have room for more.
_BUSY = 0.5
_HALF = 0.5
# What memory takes from the throughput counts from here on; so does what batching could add to it.
_SMALL_LOSS, _SMALL_GAIN = 0.03, 0.15
# An objective counts as tight where the interval reaches this share of it.
_TIGHT = 0.8
_MOSTLY_PADDING = 0.1
_MOST_LIMITS = 2
# Batches that hold this share of what they may, while workers idle, are those of bursts.
_FULL = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What limits the plan now.

    Args:
        limit: The name of what binds.
        why: The evidence, with numbers.
        remedy: What would move it.
    """

    limit: Limit
    why: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Belongs:
    """Whether batching belongs here.

    Args:
        answer: True where it does.
        why: The evidence, with numbers.
    """

    answer: bool
    why: str


# -------------------------------------------------------------------------------------------- what binds now


def what_binds(result: SearchResult, candidates: Candidates, gaps: Sequence[Gap]) -> tuple[Binding, ...]:
    """Name what limits the plan, the tightest first: one limit or two, for more would say what the first already has.

    Args:
        result: What the search found.
        candidates: The measured model, and what sizes it allows.
        gaps: How far each objective is from being met.
    """
    worst = max(gaps, key=lambda gap: gap.predicted_s.value / gap.objective.latency_s, default=None)
    missed = [_missed(gap) for gap in sorted(gaps, key=lambda gap: gap is not worst) if gap.verdict is not Verdict.MET]
    tight = [_tight(gap) for gap in gaps if gap.verdict is Verdict.MET and _is_tight(gap)]
    return (*missed[:1], *_memory(result, candidates), _load(result, candidates), *tight)[:_MOST_LIMITS]


def _missed(gap: Gap) -> Binding:
    return Binding(
        limit="objective",
        why=gap.sentence,
        remedy="Allow more time, or take from what else could be done what brings the latency down.",
    )


def _is_tight(gap: Gap) -> bool:
    return gap.predicted_s.high > _TIGHT * gap.objective.latency_s


def _tight(gap: Gap) -> Binding:
    name = f"p{gap.objective.quantile * 100:g}"
    return Binding(
        limit="objective",
        why=(
            f"{name} is predicted at {among(gap.predicted_s, format_duration)}, near the "
            f"{format_duration(gap.objective.latency_s)} promised."
        ),
        remedy="There is little room for more load; another worker or a faster device would make some.",
    )


def _memory(result: SearchResult, candidates: Candidates) -> Iterator[Binding]:
    """Say what memory takes, where more of it would raise what can be carried."""
    most, limited_by = candidates.largest(candidates.typical)
    if limited_by != "memory":
        return
    wanted = candidates.measured(candidates.typical)
    now = candidates.of_size(most, result.chosen.num_workers)
    free = replace(now, policy=replace(now.policy, max_batch_size=wanted, memory_limit_bytes=None))
    rate_now, rate_free = candidates.capacity(now), candidates.capacity(free)
    if rate_free > (1 + _SMALL_LOSS) * rate_now:
        yield Binding(
            limit="memory",
            why=(
                f"Memory holds batches of {most} items of {counted(candidates.typical, 'token')}, of the {wanted} that "
                "were measured."
            ),
            remedy=(
                f"With more memory, or a smaller or narrower model, full batches would carry {format_count(rate_free)} "
                f"instead of {format_count(rate_now)} items/s."
            ),
        )


def _load(result: SearchResult, candidates: Candidates) -> Binding:
    """Name what sets the pace: what arrives, where the workers idle; else what their time goes into."""
    busy = result.prediction.utilisation.value
    if busy < _BUSY and result.prediction.stable:
        return _arrivals(result, candidates)
    share = _overhead_share(result.prediction, candidates)
    size, held = result.chosen.policy.max_batch_size, result.prediction.mean_batch_size.value
    batches = f"batches hold {held:.2g} of up to {size}" if size > 1 else "each runs alone"
    said = (
        f"Workers are busy {busy:.0%} of the time, and {share:.0%} of it is overhead that the items of a batch share "
        f"({batches})."
    )
    most = candidates.capacity(candidates.of_size(candidates.sizes()[-1], result.chosen.num_workers))
    if share >= _HALF:
        return Binding(limit="overhead", why=said, remedy=_less_overhead(most, batched=size > 1))
    return Binding(limit="compute", why=said, remedy=_less_compute(result.prediction, most, candidates, result))


def _less_overhead(most: float, *, batched: bool) -> str:
    if not batched:
        return (
            "Fewer and larger steps within the model (compiled, fused) lessen it. Batches would share it, and pay once "
            f"more arrives: full ones carry up to {format_count(most)} items/s."
        )
    return (
        f"Larger batches share it: full ones would carry up to {format_count(most)} items/s. So do fewer and "
        "larger steps within the model (compiled, fused)."
    )


def _arrivals(result: SearchResult, candidates: Candidates) -> Binding:
    found = result.prediction
    most = candidates.capacity(result.chosen)
    size = result.chosen.policy.max_batch_size
    idle = f"Workers idle {1 - found.utilisation.value:.0%} of the time"
    held = f"batches hold {found.mean_batch_size.value:.2g} of up to {size}"
    if size > 1 and found.fill_ratio.value >= _FULL:
        return Binding(
            limit="arrivals",
            why=f"{idle}, and yet {held}: the load comes in bursts.",
            remedy="Steadier arrivals, larger batches, or more workers for the peaks move it.",
        )
    return Binding(
        limit="arrivals",
        why=f"{idle}{f', and {held}' if size > 1 else ''}: the load sets the pace.",
        remedy=(
            f"The same setup carries up to {format_count(most)} items/s{' with full batches' * (size > 1)}; until then "
            "neither a faster device nor larger batches answer more items."
        ),
    )


def _less_compute(found: Prediction, most: float, candidates: Candidates, result: SearchResult) -> str:
    more = most / candidates.capacity(result.chosen) - 1
    waste = found.padding_waste.value
    padding = f"; {waste:.0%} of the tokens are padding" if waste >= _MOSTLY_PADDING else ""
    if more > _SMALL_LOSS:
        larger = f"Larger batches, when full, would carry {more:.0%} more"
    elif result.chosen.policy.max_batch_size == candidates.sizes()[-1] and candidates.still_gains:
        larger = "Batches are as large as they may be"
    else:
        larger = "Larger batches no longer help"
    return f"{larger}{padding}. Less work an item, a narrower dtype, a faster device or more workers move it."


def _overhead_share(found: Prediction, candidates: Candidates) -> float:
    """Return the share of a mean batch's time that its items share."""
    cost = candidates.subject.cost
    length = min(max(candidates.typical, cost.lengths[0]), cost.lengths[-1])
    size = min(max(round(found.mean_batch_size.value), cost.batch_sizes[0]), cost.largest_batch_at(length))
    return cost.overhead_share(size, length)


# --------------------------------------------------------------------------------- whether batching belongs


def whether_batching_belongs(result: SearchResult, candidates: Candidates, rate: float) -> Belongs:
    """Say whether batching belongs here, by the load and by what batches cost.

    Args:
        result: What the search found.
        candidates: The measured model, and what sizes it allows.
        rate: Items a second that arrive.
    """
    if result.chosen.policy.max_batch_size == 1:
        return Belongs(answer=False, why=_why_not(result, candidates, rate))
    if result.unbatched is None:
        most = candidates.capacity(candidates.of_size(1, result.chosen.num_workers))
        found = result.prediction
        carried = "the rest" if found.stable else f"{format_count(found.throughput.value)}, which is not enough either"
        workers = f"{result.chosen.num_workers} workers" if result.chosen.num_workers > 1 else "a worker"
        return Belongs(
            answer=True,
            why=(
                f"{format_count(rate)} items/s arrive, and without batching {workers} can carry about "
                f"{format_count(most)} at most: batching carries {carried}."
            ),
        )
    return Belongs(answer=True, why=_what_it_buys(*result.unbatched, result, candidates))


def _why_not(result: SearchResult, candidates: Candidates, rate: float) -> str:
    num = result.chosen.num_workers
    single, largest = (candidates.capacity(candidates.of_size(size, num)) for size in (1, candidates.sizes()[-1]))
    cost = candidates.subject.cost.clipped()
    size = min(8, candidates.sizes()[-1])
    if largest < (1 + _SMALL_GAIN) * single:
        times = cost.time_s(size, candidates.typical) / cost.time_s(1, candidates.typical)
        return (
            f"A batch of {size} takes {times:.2g} times as long as one item, so batching would raise what can be "
            f"carried by {max(0.0, largest / single - 1):.0%} at most, and items would wait for one another: they are "
            "best run one by one."
        )
    return (
        f"Full batches could carry {format_count(largest)} instead of {format_count(single)} items/s, but "
        f"{format_count(rate)}/s arrive: workers are busy {result.prediction.utilisation.value:.0%} of the time, items "
        "seldom meet, and taking them one by one is as good."
    )


def _what_it_buys(now: Prediction, without: Prediction, result: SearchResult, candidates: Candidates) -> str:
    """Hold no batching against the chosen setup, both in the same windows."""
    name, now_s, other_s = _latency(now, without)
    lost = 1 - without.goodput.value / now.goodput.value if now.goodput.value else 0.0
    goodput = f", goodput {lost:.0%} lower" if lost >= _SMALL_LOSS else ""
    single = candidates.capacity(candidates.of_size(1, result.chosen.num_workers))
    full = candidates.capacity(result.chosen)
    little = abs(other_s / now_s - 1) < SMALL_LATENCY and not goodput
    return (
        f"{'It buys little at this load: without' if little else 'Without'} it {name} would be "
        f"{changed(now_s, other_s)}{goodput}, workers would be busy "
        f"{without.utilisation.value:.0%} of the time rather than {now.utilisation.value:.0%}, and could carry "
        f"{format_count(single)} instead of {format_count(full)} items/s."
    )


def _latency(with_it: Prediction, without: Prediction) -> tuple[str, float, float]:
    """Return the latency that matters most: that of the objective nearest to its limit, or the mean."""
    if not with_it.objectives:
        return "the mean latency", with_it.mean_s.value, without.mean_s.value
    index = max(range(len(with_it.objectives)), key=lambda number: _strain(with_it, with_it.objectives, number))
    name = f"p{with_it.objectives[index].quantile * 100:g}"
    return name, with_it.at_objectives_s[index].value, without.at_objectives_s[index].value


def _strain(found: Prediction, objectives: Sequence[Objective], index: int) -> float:
    return found.at_objectives_s[index].value / objectives[index].latency_s
