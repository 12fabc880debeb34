"""Training runs to a target, at one effective batch after another: what the curve of steps over examples is made of."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.setup import count_items

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from carpool.train.setup import TrainSetup
    from carpool.train.window import GradientListener

_LOOK_EVERY = 0.02  # share of the steps so far after which the model is looked at again
_MOST_RATES = 6  # tried upwards, and downwards


def exact_plan(effective_batch_size: int, most_micro_batch: int) -> BatchPlan:
    """Cut an effective batch into equal micro-batches, as large as may be: then any loader makes whole windows of it.

    Args:
        effective_batch_size: items of a step.
        most_micro_batch: most items of a micro-batch.

    >>> exact_plan(96, 40).sizes(0)
    (32, 32, 32)
    """
    sizes = range(min(most_micro_batch, effective_batch_size), 0, -1)
    size = next(size for size in sizes if effective_batch_size % size == 0)
    return BatchPlan(effective_batch_size=effective_batch_size, micro_batch_size=size)


def steps_to(
    target: float,
    setup: TrainSetup,
    plan: BatchPlan,
    *,
    learning_rate: float,
    most_steps: int,
    listeners: Iterable[GradientListener] = (),
) -> int | None:
    """Train until `validate` gives the target or less.

    The model is looked at after every step at first, and then after each 2 % more of them.

    Args:
        target: what `validate` is to give.
        setup: fresh from the function that makes it; its model is trained.
        plan: how the effective batch is cut, evenly.
        learning_rate: of every group of parameters.
        most_steps: steps after which it is given up.
        listeners: told of the gradients.

    Returns:
        Steps of the optimiser; None where they were too few, or the loss was not finite any more.

    Raises:
        ConfigError: the setup has no `validate`.
    """
    if setup.validate is None:
        raise ConfigError("the setup has no validate, so that nothing says when the target is reached: give it one")
    for group in setup.optimizer.param_groups:
        group["lr"] = learning_rate
    accumulator = Accumulator(setup.model, setup.optimizer, plan=plan, count=setup.count or count_items)
    accumulator.listeners.extend(listeners)
    look_at = 1
    for step, micro_batches in enumerate(itertools.islice(whole_windows(setup, plan), most_steps), start=1):
        if accumulator.step(micro_batches, setup.loss).skipped:
            return None
        if step >= look_at:
            look_at = max(step + 1, math.ceil(step * (1.0 + _LOOK_EVERY)))
            if setup.validate(setup.model) <= target:
                return step
    return None


def whole_windows(setup: TrainSetup, plan: BatchPlan) -> Iterator[list[Any]]:
    """Whole windows, pass after pass over the data; what is left over at the end of a pass makes none.

    Args:
        setup: whose loader gives the micro-batches.
        plan: how the effective batch is cut, evenly.

    Raises:
        ConfigError: a pass has no whole window.
    """
    num_windows = setup.num_items // plan.effective_batch_size
    while num_windows:
        loader = iter(setup.loader(plan.micro_batch_size))
        for _ in range(num_windows):
            window = list(itertools.islice(loader, plan.num_accumulation_steps))
            if len(window) < plan.num_accumulation_steps:
                raise ConfigError(
                    f"loader({plan.micro_batch_size}) ended before it gave the {setup.num_items:,} items that "
                    "num_items says there are: correct one of them"
                )
            yield window
    raise ConfigError(
        f"{setup.num_items:,} items do not make an effective batch of {plan.effective_batch_size:,}: take a smaller one"
    )


def best_rate(run: Callable[[float, int], int | None], first: float, *, most_steps: int) -> tuple[float, int] | None:
    """Double a learning rate until it takes more steps; where that was no use at once, halve it until it does.

    Args:
        run: trains with a rate for so many steps at most, and returns how many it took; None where it did not arrive.
        first: the rate to begin with.
        most_steps: steps after which the first run is given up; later ones are when they take as many as the best.

    Returns:
        The best rate and its steps; None where no run arrived.

    >>> best_rate(lambda rate, most: round(abs(rate - 0.3) * 100) + 50, 0.1, most_steps=1000)
    (0.2, 60)
    """
    best: tuple[float, int] | None = None
    for factor, rate in ((2.0, first), (0.5, first / 2.0)):
        for power in range(_MOST_RATES):
            tried = rate * factor**power
            steps = run(tried, most_steps if best is None else best[1] - 1)
            if steps is not None and (best is None or steps < best[1]):
                best = tried, steps
            elif best is not None or factor > 1.0:
                break
        if best is not None and best[0] > first:
            break
    return best
