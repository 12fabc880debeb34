"""Puts a training plan together from what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.train.batch_norm import find
from carpool.train.noise.time_optimal import StepCost, TimeOptimal, time_optimal_batch
from carpool.train.planning.plan import TrainPlan
from carpool.train.planning.sentences import sentences
from carpool.train.planning.step_time import StepTime
from carpool.train.planning.trade_off import Target, trade_off
from carpool.train.scaling.apply import scale_hyperparameters
from carpool.units import format_sizes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.train.autosize.result import MicroBatch, Throughput
    from carpool.train.batch_plan import BatchPlan
    from carpool.train.planning.trade_off import Noise
    from carpool.train.scaling.report import ScalingReport
    from carpool.train.setup import TrainSetup

BATCH_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlanOptions:
    """What to plan for.

    Args:
        effective_batch_size: items of a step of the optimiser, over all ranks.
        batch_sizes: others to compare it with.
        num_ranks: processes that train together.
        memory_bytes: most memory of a rank; None for what the machine leaves.
        base_batch_size: effective batch that the optimiser's rates were chosen for; None for what the setup says.
        base_steps: steps that training takes with that batch; None where it is not known.
        noise: the noise scale in items, or `measure`; None leaves it out.
        noise_budget_s: seconds to measure the noise scale for.
        timing_budget_s: seconds to time micro-batches for.

    Raises:
        ConfigError: a number is out of its range, or they do not go together.
    """

    effective_batch_size: int
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    num_ranks: int = 1
    memory_bytes: int | None = None
    base_batch_size: int | None = None
    base_steps: int | None = None
    noise: float | Literal["measure"] | None = None
    noise_budget_s: float = 20.0
    timing_budget_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("effective_batch_size", "num_ranks"):
            check_whole(name, getattr(self, name))
        if self.effective_batch_size < self.num_ranks:
            raise ConfigError(
                f"an effective batch of {self.effective_batch_size} leaves some of {self.num_ranks} ranks without an "
                "item: make it larger, or train on fewer ranks"
            )
        if self.base_steps is not None and self.noise is None:
            raise ConfigError(
                "steps at the base batch say how long other batches take only with the noise scale: give it, or have "
                "it measured"
            )

    def most_micro_batch(self, num_items: int) -> int:
        """Most items of a rank that any of the effective batches gives it.

        Args:
            num_items: of the data.
        """
        largest = max(size for size in (*self.batch_sizes, self.effective_batch_size) if size <= num_items)
        return -(-largest // self.num_ranks)


def check_asked(options: TrainPlanOptions, num_items: int, base: int | None) -> None:
    """Refuse what the data or the setup make impossible, before anything is measured for it.

    Args:
        options: what to plan for.
        num_items: of the data.
        base: effective batch that the optimiser's rates were chosen for; None where nobody said.

    Raises:
        ConfigError: it is.
    """
    if options.effective_batch_size > num_items:
        raise ConfigError(
            f"an effective batch of {options.effective_batch_size:,} is more than the {num_items:,} items of the data: "
            f"ask for at most {num_items:,}"
        )
    if options.base_steps is not None and base is None:
        raise ConfigError(
            "nothing says at which batch the steps are counted: give the base batch beside the base steps"
        )


def assemble(
    name: str,
    setup: TrainSetup,
    found: MicroBatch,
    throughput: Throughput,
    options: TrainPlanOptions,
    *,
    noise: Noise | None = None,
    doubts: tuple[str, ...] = (),
) -> TrainPlan:
    """Put a plan together.

    Args:
        name: of what is trained.
        setup: its model and optimiser; neither is changed.
        found: the largest micro-batch.
        throughput: times of the data's own micro-batches.
        options: what to plan for.
        noise: how noisy gradients are, in items.
        doubts: what is known to speak against the figures.

    Raises:
        ConfigError: more is asked for than the data have items, or steps at a base that nobody named.
    """
    check_asked(options, setup.num_items, options.base_batch_size or setup.base_batch_size)
    base = options.base_batch_size or setup.base_batch_size
    time = StepTime.of(throughput)
    target = _target(options.base_steps, base)
    trade = trade_off(
        options.batch_sizes,
        options.effective_batch_size,
        time,
        num_items=setup.num_items,
        largest_micro_batch=found.size,
        num_ranks=options.num_ranks,
        memory=found.memory,
        noise=noise,
        target=target,
        learning_rate=lambda size: learning_rate(setup, size, base),
    )
    scaling, refused = scaled(setup, options.effective_batch_size, base)
    plan = TrainPlan(
        name=name,
        model=type(setup.model).__name__,
        num_parameters=sum(one.numel() for one in setup.model.parameters() if one.requires_grad),
        optimizer=type(setup.optimizer).__name__,
        effective_batch_size=options.effective_batch_size,
        num_ranks=options.num_ranks,
        num_items=setup.num_items,
        base_batch_size=base,
        micro_batch=found,
        throughput=throughput,
        time=time,
        trade_off=trade,
        scaling=scaling,
        noise=noise,
        optimal=None if noise is None else _optimal(noise, time, found.size, options, setup.num_items),
        target=target,
        doubts=(*doubts, *refused, *_doubts(found, time), *_about_batch_norm(setup, trade.asked.plan)),
    )
    return replace(plan, sentences=sentences(plan))


def _target(base_steps: int | None, base: int | None) -> Target | None:
    if base_steps is None:
        return None
    if base is None:
        raise ConfigError(
            "nothing says at which batch the steps are counted: give the base batch beside the base steps"
        )
    return Target(num_steps=base_steps, batch_size=base)


def scaled(setup: TrainSetup, batch_size: int, base: int | None) -> tuple[ScalingReport | None, tuple[str, ...]]:
    """Return the hyper-parameters for a batch, and what speaks against them.

    Where Adam's decays leave nothing by the linear form, they follow the power form.

    Args:
        setup: with the optimiser, which is left as it is.
        batch_size: effective batch.
        base: that its rates were chosen for; None where nobody said.
    """
    if base is None:
        return None, ()
    factor, per_epoch = batch_size / base, -(-setup.num_items // batch_size)
    try:
        return scale_hyperparameters(setup.optimizer, factor, steps_per_epoch=per_epoch, apply=False), ()
    except ConfigError:  # past the end of the linear form, or no rule at all
        return _powered(setup, factor, per_epoch)


def _powered(setup: TrainSetup, factor: float, per_epoch: int) -> tuple[ScalingReport | None, tuple[str, ...]]:
    try:
        report = scale_hyperparameters(
            setup.optimizer, factor, beta_form="power", steps_per_epoch=per_epoch, apply=False
        )
    except ConfigError as refused:
        return None, (f"The hyper-parameters are left as they are: {refused}.",)
    return report, ()  # its notes say that it goes beyond the linear form


def learning_rate(setup: TrainSetup, batch_size: int, base: int | None) -> float | None:
    """Return the learning rate of the first group of parameters at a batch; None where nothing says.

    Args:
        setup: with the optimiser.
        batch_size: effective batch.
        base: that its rates were chosen for; None where nobody said.
    """
    report, _ = scaled(setup, batch_size, base)
    if report is None:
        return None
    rate = report.after("lr")
    return float(setup.optimizer.param_groups[0]["lr"]) if rate is None else rate


def _optimal(
    noise: Noise, time: StepTime, largest: int, options: TrainPlanOptions, num_items: int
) -> TimeOptimal | None:
    if time.cost is None:
        return None
    split = time.cost.surface.split(1)
    cost = StepCost(
        step_s=time.update_s,
        micro_batch_s=split.overhead_s,
        item_s=split.per_item_s,
        largest_micro_batch=largest,
        num_ranks=options.num_ranks,
    )
    return time_optimal_batch(noise.scale, cost, most=num_items) if num_items >= options.num_ranks else None


def _about_batch_norm(setup: TrainSetup, plan: BatchPlan) -> Iterator[str]:
    layers = find(setup.model)
    if layers and (plan.num_accumulation_steps > 1 or plan.num_ranks > 1):
        yield (
            f"BatchNorm ({layers[0]}{f' and {len(layers) - 1} more' if len(layers) > 1 else ''}) sees micro-batches of "
            f"{plan.micro_batch_size:,}, not the effective batch: see carpool.train.check_batch_norm."
        )


_SURE_PCT = 20.0  # a fit that is wrong by more than this at the median is not to be relied on


def _doubts(found: MicroBatch, time: StepTime) -> Iterator[str]:
    if time.cost is not None and time.cost.error_pct > _SURE_PCT:
        yield (
            f"The fit of times misses sizes that it has not seen by {time.cost.error_pct:.0f}% at the median: "
            "something else ran meanwhile, or times jump with the size."
        )
    if found.usual_bytes is not None and found.usual_bytes > found.limit_bytes:
        held, limit = format_sizes(found.usual_bytes, found.limit_bytes)
        yield (
            f"Micro-batches of {found.size:,} took {held}, more than {limit}, in a process that keeps what it frees: "
            "call carpool.train.give_back_freed_memory() before you train with them."
        )
    if time.cost is None and found.size > 1:
        yield "Only one size of micro-batch was timed; times of others are taken to grow with their items."
