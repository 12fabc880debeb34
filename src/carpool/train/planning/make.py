"""Measures what a training plan is made of, and makes it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from carpool.errors import ConfigError
from carpool.train.autosize.find import find_micro_batch
from carpool.train.autosize.result import describe
from carpool.train.autosize.source import load_setup
from carpool.train.planning.assemble import assemble, check_asked
from carpool.train.planning.check import asking, check_setup
from carpool.train.planning.noise import measure_noise, parts_plan
from carpool.train.planning.timing import time_passes
from carpool.train.planning.trade_off import Noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.train.planning.assemble import TrainPlanOptions
    from carpool.train.planning.plan import TrainPlan
    from carpool.train.setup import TrainSetup

_WORST_S = 0.5  # for training with the worst micro-batches as a process usually holds memory; times are of usual ones


def plan_training(
    target: str, options: TrainPlanOptions, *, watch: Callable[[str], None] = lambda _: None
) -> TrainPlan:
    """Find the micro-batch, time it, measure the noise where that is asked for, and put a plan together.

    Args:
        target: `file.py:setup` or `package.module:setup`: a function that returns a `TrainSetup`.
        options: what to plan for.
        watch: told what is done next.

    Raises:
        ConfigError: the target or what it returns can't be planned for.
        OutOfMemory: not even one item fits.
        ModelError: a training step failed.
    """
    watch("the setup")
    setup = load_setup(target)
    base = options.base_batch_size or setup.base_batch_size
    check_asked(options, setup.num_items, base)
    if options.noise == "measure":
        parts_plan(min(base or options.effective_batch_size, setup.num_items), 1)  # refuses what is too small, at once
    doubts = check_setup(setup)
    most = options.most_micro_batch(setup.num_items)
    del setup  # what it holds is not there for the steps that are tried
    watch("a micro-batch")
    found = find_micro_batch(
        target, memory=options.memory_bytes, most=most, timing_s=_WORST_S, on_probe=lambda probe: watch(describe(probe))
    )
    watch("times")
    smallest = min(probe.size for probe in found.probes if probe.fits)
    with asking("a training step"):
        throughput = time_passes(load_setup(target), found.size, smallest=smallest, budget_s=options.timing_budget_s)
    watch("the noise scale" if options.noise == "measure" else "the plan")
    noise, unsure = noise_of(target, options, base, (smallest, found.size))
    return assemble(target, load_setup(target), found, throughput, options, noise=noise, doubts=(*doubts, *unsure))


def noise_of(
    setup: str | Callable[[], TrainSetup], options: TrainPlanOptions, base: int | None, sizes: tuple[int, int]
) -> tuple[Noise | None, tuple[str, ...]]:
    """Take the noise scale as given, or measure it.

    Args:
        setup: a TARGET, or the function itself.
        options: what to plan for.
        base: effective batch that the optimiser's rates suit; None where nobody said.
        sizes: the fewest items of a micro-batch that can be trained with, and the most that fit.

    Returns:
        The noise scale, in items, where it is known; and what speaks against it.
    """
    if options.noise is None:
        return None, ()
    if options.noise != "measure":
        return Noise.known(options.noise), ()
    try:
        with asking("a training step"):
            measured = measure_noise(
                load_setup(setup),
                base or options.effective_batch_size,  # the batch that the rates suit
                least_micro_batch=sizes[0],
                most_micro_batch=sizes[1],
                budget_s=options.noise_budget_s,
                clock=time.monotonic,
            )
    except ConfigError as error:  # the rest of the plan is none the worse
        return None, (f"The noise scale could not be measured: {error}.",)
    noise = measured.in_items()
    if noise is None:
        return None, (
            f"{measured.estimate.text}, and so no time to a target is told: measure longer, or give the scale.",
        )
    return noise, ()
