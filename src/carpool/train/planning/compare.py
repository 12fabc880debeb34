"""Trains really at several effective batches, each with the learning rate that suits it best, and fits the curve."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.report.table import Column, Table
from carpool.train.noise.estimate import NoiseEstimate
from carpool.train.noise.listener import NoiseScale
from carpool.train.planning.curve import Reached, StepsCurve, check_enough, fit_curve
from carpool.train.planning.runs import best_rate, exact_plan, steps_to
from carpool.train.scaling.apply import scale_hyperparameters
from carpool.units import format_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.report.plot import Picture
    from carpool.train.batch_plan import BatchPlan
    from carpool.train.setup import TrainSetup

_AT_MOST = 3  # a rate with which a batch takes so many times the steps that it should is given up
_NUM_PARTS = 8  # micro-batches of the window that the noise is measured in


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """What training took at several effective batches.

    Args:
        target: what `validate` had to give.
        runs: by effective batch; the best learning rate of each.
        most_micro_batch: most items of a micro-batch.
        ruled: the learning rates that the scaling rule gives for them.
        curve: through them.
        noise: measured in one more run, all the way to the target.
        noise_items: the noise scale in items; None where it was not identified.
    """

    target: float
    runs: tuple[Reached, ...]
    most_micro_batch: int
    ruled: tuple[float, ...]
    curve: StepsCurve
    noise: NoiseEstimate
    noise_items: float | None

    def table(self) -> Table:
        """Return the runs as a table, beside the curve."""
        return Table(
            f"To {self.target:g}, by effective batch",
            (
                Column("batch"),
                Column("micro-batches"),
                Column("rate by rule", spec=".3g", align="right"),
                Column("best rate", spec=".3g", align="right"),
                Column("steps"),
                Column("by the curve", spec=",.0f"),
                Column("examples"),
            ),
            tuple(
                (
                    run.batch_size,
                    exact_plan(run.batch_size, self.most_micro_batch).num_accumulation_steps,
                    rule,
                    run.learning_rate,
                    run.num_steps,
                    self.curve.steps_at(run.batch_size),
                    run.num_examples,
                )
                for run, rule in zip(self.runs, self.ruled, strict=True)
            ),
            notes=tuple(self.sentences),
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """Say what the curve and the noise scale say."""
        curve = self.curve
        steps, examples = format_count(curve.fewest_steps), format_count(curve.fewest_examples)
        fitted = (
            f"The curve {steps} + {examples} / batch misses the runs by {curve.error_pct:.0f}% at the median; its "
            f"critical batch is {format_count(curve.critical_batch_size)}."
        )
        return fitted, f"Measured on the way: {self.noise.text}{self._in_items()}."

    def _in_items(self) -> str:
        """Say the noise scale in items where valid items are something else, as tokens are."""
        if self.noise_items is None or self.noise_items == self.noise.noise_scale:
            return ""
        return f", which is {format_count(self.noise_items)} in items"

    def picture(self) -> Picture:
        """Draw the runs, and the curve through them."""
        from carpool.train.planning.plots import curve_picture

        return curve_picture(self.runs, self.curve, noise_scale=self.noise_items)


def compare_batches(
    make_setup: Callable[[], TrainSetup],
    batch_sizes: Sequence[int],
    *,
    target: float,
    most_micro_batch: int,
    most_examples: int,
    watch: Callable[[Reached], None] = lambda _: None,
) -> Compared:
    """Train to a target at each effective batch, with doubled and halved learning rates until the steps grow.

    Args:
        make_setup: makes a fresh setup for each run, always the same; with `validate` and `base_batch_size`.
        batch_sizes: effective batches, three or more.
        target: what `validate` is to give.
        most_micro_batch: most items of a micro-batch.
        most_examples: examples after which a run is given up.
        watch: told of the best run of each effective batch.

    Raises:
        ConfigError: a number is out of its range, or a batch does not get to the target with any learning rate that
            was tried.
    """
    check_enough(set(batch_sizes))
    for size in batch_sizes:
        check_whole("an effective batch", size)
    for name, value in (("most_micro_batch", most_micro_batch), ("most_examples", most_examples)):
        check_whole(name, value)
    base = make_setup().base_batch_size
    if base is None:
        raise ConfigError("the setup does not say which batch its learning rate is for: give it base_batch_size")
    rules = {size: ruled_rate(make_setup(), size) for size in sorted(set(batch_sizes))}
    best: dict[int, Reached] = {}
    for size, neighbour in _outwards(sorted(rules), base):
        plan = exact_plan(size, most_micro_batch)

        def run(rate: float, most_steps: int, plan: BatchPlan = plan) -> int | None:
            return steps_to(target, make_setup(), plan, learning_rate=rate, most_steps=most_steps)

        first = best[neighbour].learning_rate if neighbour else rules[size]
        most_steps = -(-most_examples // size)
        if neighbour:
            most_steps = min(most_steps, _AT_MOST * _steps_expected(best[neighbour], size))
        found = best_rate(run, first, most_steps=most_steps)
        if found is None:
            raise ConfigError(
                f"{most_steps * size:,} examples in batches of {size:,} do not reach {target:g}, at rates from "
                f"{first:g} downwards: allow more, or aim for less"
            )
        best[size] = Reached(batch_size=size, num_steps=found[1], learning_rate=found[0])
        watch(best[size])
    runs = [best[size] for size in rules]
    noise, noise_items = measured_noise(make_setup(), runs[len(runs) // 2], target)
    return Compared(
        target=target,
        runs=tuple(runs),
        most_micro_batch=most_micro_batch,
        ruled=tuple(rules.values()),
        curve=fit_curve(runs),
        noise=noise,
        noise_items=noise_items,
    )


def _outwards(sizes: Sequence[int], base: int) -> Iterator[tuple[int, int | None]]:
    """Go from the size nearest the base upwards, and then downwards; each with its neighbour, whose rate is near."""
    start = min(range(len(sizes)), key=lambda index: abs(math.log(sizes[index] / base)))
    yield sizes[start], None
    yield from ((sizes[index], sizes[index - 1]) for index in range(start + 1, len(sizes)))
    yield from ((sizes[index], sizes[index + 1]) for index in range(start - 1, -1, -1))


def _steps_expected(neighbour: Reached, size: int) -> int:
    """Most steps by the curve: a larger batch takes no more of them, and a smaller one no more examples."""
    return neighbour.num_steps * max(1, -(-neighbour.batch_size // size))


def ruled_rate(setup: TrainSetup, batch_size: int) -> float:
    """Return the learning rate that the scaling rule gives for an effective batch.

    Args:
        setup: with `base_batch_size`.
        batch_size: effective batch.
    """
    assert setup.base_batch_size is not None, "it was asked for"
    factor = batch_size / setup.base_batch_size
    rate = scale_hyperparameters(setup.optimizer, factor, beta_form="power", apply=False).after("lr")
    return float(setup.optimizer.param_groups[0]["lr"]) if rate is None else rate


def measured_noise(setup: TrainSetup, run: Reached, target: float) -> tuple[NoiseEstimate, float | None]:
    """Make a run once more, in parts that tell the noise, and average over all of it.

    Args:
        setup: fresh.
        run: to repeat.
        target: that it reached.

    Returns:
        The noise scale in valid items, and in items.
    """
    plan = exact_plan(run.batch_size, max(1, run.batch_size // _NUM_PARTS))
    listener = NoiseScale(setup.model, num_items=setup.num_items if setup.count is None else None, decay=1.0)
    per_item = valid_of_an_item(setup, plan.micro_batch_size)
    steps_to(target, setup, plan, learning_rate=run.learning_rate, most_steps=2 * run.num_steps, listeners=[listener])
    listener.close()
    noise = listener.estimate()
    return noise, noise.noise_scale / per_item if noise.identified and noise.noise_scale else None


def valid_of_an_item(setup: TrainSetup, micro_batch_size: int, *, num_micro_batches: int = 32) -> float:
    """Return the valid items that an item has on average: the tokens with a label of a text, or 1.

    Args:
        setup: whose loader and count are asked.
        micro_batch_size: items of a micro-batch.
        num_micro_batches: most that are looked at; the last of a pass, which may be short, is left out.

    Raises:
        ConfigError: the loader gives no micro-batch of that size, or none has a valid item.
    """
    if setup.count is None:
        return 1.0
    whole = min(num_micro_batches, setup.num_items // micro_batch_size)
    counts = [setup.num_valid(batch) for batch in itertools.islice(setup.loader(micro_batch_size), whole)]
    if not sum(counts):
        raise ConfigError(
            f"the first {whole} micro-batches of {micro_batch_size} have no valid item: correct count, or the loader"
        )
    return sum(counts) / (len(counts) * micro_batch_size)
