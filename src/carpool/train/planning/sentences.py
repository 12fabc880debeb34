"""What a training plan means, in plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.train.noise.critical import more_steps
from carpool.units import counted, format_count, format_duration, format_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.train.planning.plan import TrainPlan
    from carpool.train.scaling.change import WarmUp

_LITTLE = 0.05  # a smaller share of the time is not worth a word
_HOLDS = 0.8  # a rule that gives a rate larger than this share says is told of


def sentences(plan: TrainPlan) -> tuple[str, ...]:
    """Say what a plan means.

    Args:
        plan: without its sentences.
    """
    return (
        _how(plan),
        _memory(plan),
        *_faster_micro_batch(plan),
        _times(plan),
        *_hyper_parameters(plan),
        *_noise(plan),
        *_optimal(plan),
    )


def _how(plan: TrainPlan) -> str:
    sizes = sorted(set(plan.chosen.plan.sizes(0)))
    items = counted(sizes[-1], "item") if len(sizes) == 1 else f"{sizes[0]} or {sizes[1]} items"
    steps, ranks = plan.chosen.plan.num_accumulation_steps, counted(plan.num_ranks, "rank")
    parts = f"{counted(steps, 'micro-batch')} of {items}"
    on = f" on each of {ranks}" if plan.num_ranks > 1 else ""
    return f"Train with {parts}{on} for an effective batch of {plan.effective_batch_size:,}."


def _memory(plan: TrainPlan) -> str:
    found = plan.micro_batch
    peak, limit = format_sizes(found.peak_bytes, found.limit_bytes)
    bound = f"; {found.too_large:,} do not fit" if found.too_large is not None else "; a larger one was not asked for"
    return (
        f"The largest micro-batch that was seen to fit is {found.size:,}: it takes {peak} of {limit} "
        f"({found.limit_source}){bound}."
    )


def _faster_micro_batch(plan: TrainPlan) -> Iterator[str]:
    """Say where the largest micro-batch is not the one to train with."""
    cut = plan.chosen.plan
    if cut.num_accumulation_steps > -(-cut.most_items_of_a_rank // plan.micro_batch.size):
        yield (
            f"Micro-batches of {cut.micro_batch_size:,} are clearly faster than fewer and larger ones, which fit too: "
            "they are taken."
        )


def _times(plan: TrainPlan) -> str:
    row = plan.chosen
    said = (
        f"A step takes {format_duration(row.step_s)}, {format_count(row.items_per_s)} items/s; a pass over the "
        f"{plan.num_items:,} items takes {format_duration(row.epoch_s)} in {counted(row.num_steps, 'step')}"
    )
    share = plan.time.update_s / row.step_s
    return f"{said}." if share < _LITTLE else f"{said}. {share:.0%} of a step is the optimiser's own, once a window."


def _hyper_parameters(plan: TrainPlan) -> Iterator[str]:
    if plan.base_batch_size is None:
        yield (
            "The hyper-parameters stay as they are: nothing says which batch they were chosen for. Give --base-batch, "
            "or base_batch_size in the setup."
        )
    elif plan.scaling is not None and plan.scaling.factor == 1.0:
        yield "The hyper-parameters stay as they are: they were chosen for this effective batch."
    elif plan.scaling is not None:
        if plan.scaling.warm_up is not None:
            yield _warm_up(plan.scaling.warm_up)
        yield from (f"{note[:1].upper()}{note[1:]}." for note in plan.scaling.notes)
        yield from _saturation(plan)


def _warm_up(found: WarmUp) -> str:
    epochs = [f"{found.num_epochs:g} epochs"] if found.num_epochs is not None else []
    steps = [counted(found.num_steps, "step")] if found.num_steps is not None else []
    over = f" over {' = '.join([*epochs, *steps])}" if epochs or steps else ""
    return (
        f"Warm the learning rate up{over} from {found.start_factor:.3g} of it, in a straight line: {found.why} "
        f"({found.source})."
    )


def _saturation(plan: TrainPlan) -> Iterator[str]:
    """Say how far the best rate of SGD really follows the batch, where the noise scale says.

    Source: McCandlish and others, "An Empirical Model of Large-Batch Training", 2018, section 2.2: the best rate at a
    batch B is `e / (1 + N / B)`.
    """
    if plan.noise is None or plan.base_batch_size is None or plan.scaling is None or plan.scaling.rule != "linear":
        return
    best, tuned = (more_steps(size, plan.noise.scale) for size in (plan.effective_batch_size, plan.base_batch_size))
    if plan.scaling.factor > 1.0 and tuned / best < _HOLDS * plan.scaling.factor:
        yield (
            "The linear rule goes too far here: by this noise scale the best rate of SGD at "
            f"{plan.effective_batch_size:,} is about {tuned / best:.3g} times that at {plan.base_batch_size:,}, not "
            f"{plan.scaling.factor:.3g} times (McCandlish et al. 2018, arXiv:1812.06162)."
        )


def _noise(plan: TrainPlan) -> Iterator[str]:
    noise, row, fastest = plan.noise, plan.chosen, plan.trade_off.fastest
    if noise is None or row.to_target is None or fastest is None:
        return
    known = "" if noise.low == noise.high else f" ({format_count(noise.low)} to {format_count(noise.high)})"
    steps, examples = format_count(row.to_target.more_steps), format_count(row.to_target.more_examples)
    yield (
        f"The noise scale is {format_count(noise.scale)} items{known}, {noise.source}: batches of {row.batch_size:,} "
        f"take {steps} times the fewest steps to a target, and {examples} times the fewest examples."
    )
    saved = 1.0 - 1.0 / row.to_target.more_time
    compared = "which is the plan" if fastest is row else f"{saved:.0%} sooner than the plan"
    yield f"Of the batches in the table {fastest.batch_size:,} reaches a target first, {compared}{_between(plan)}."


def _between(plan: TrainPlan) -> str:
    """Say which batches else may be the fastest, by how well the noise scale is known."""
    between = plan.trade_off.fastest_between()
    if between is None or between[0] == between[1]:
        return ""
    return f"; by the interval of the noise scale it may be any from {between[0]:,} to {between[1]:,}"


def _optimal(plan: TrainPlan) -> Iterator[str]:
    if plan.optimal is not None:
        yield (
            f"Over all sizes {plan.optimal.batch_size:,} is fastest: {plan.optimal.why}. It is a hint: the noise "
            "scale grows as training goes on, and stands for the critical batch to an order of magnitude."
        )
