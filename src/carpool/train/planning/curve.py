"""The curve of steps over examples, from training runs that were really made at several effective batches.

    steps(B) = S + E / B

is a straight line over 1 / B: `S` is the fewest steps that any batch takes to the target, `E` the fewest examples, and
`E / S` the critical batch size, at which both are twice the least.

Source: McCandlish, Kaplan, Amodei and others, "An Empirical Model of Large-Batch Training", 2018, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.cost.least_squares import fit_affine
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A training run that reached its target.

    Args:
        batch_size: effective batch.
        num_steps: steps of the optimiser that it took.
        learning_rate: with which.
    """

    batch_size: int
    num_steps: int
    learning_rate: float

    @property
    def num_examples(self) -> int:
        """Examples that it took."""
        return self.batch_size * self.num_steps

    def __str__(self) -> str:
        return f"batch {self.batch_size}: {self.num_steps} steps at a learning rate of {self.learning_rate:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsCurve:
    """Steps to a target over the effective batch.

    Args:
        fewest_steps: that any batch takes.
        fewest_examples: that any batch takes.
        error_pct: median size of the curve's error on the runs, in per cent.
    """

    fewest_steps: float
    fewest_examples: float
    error_pct: float

    @property
    def critical_batch_size(self) -> float:
        """The batch at which both steps and examples are twice the fewest; infinite where steps fall for ever."""
        return self.fewest_examples / self.fewest_steps if self.fewest_steps else float("inf")

    def steps_at(self, batch_size: float) -> float:
        """Steps to the target.

        Args:
            batch_size: effective batch.
        """
        return self.fewest_steps + self.fewest_examples / batch_size


def check_enough(batch_sizes: Collection[int]) -> None:
    """Refuse effective batches that tell no curve: it has two parameters, and needs something to judge them by.

    Args:
        batch_sizes: the different ones.

    Raises:
        ConfigError: there are fewer than three.
    """
    if len(batch_sizes) < 3:  # noqa: PLR2004 - said above
        raise ConfigError(
            f"runs at {len(batch_sizes)} effective batches do not tell the curve of steps over examples: train at 3 or "
            "more"
        )


def fit_curve(runs: Sequence[Reached]) -> StepsCurve:
    """Fit the curve to runs by least squares on relative error, neither of its two numbers below 0.

    Args:
        runs: at three effective batches or more.

    Raises:
        ConfigError: there are fewer; two points lie on any such curve.

    >>> made = [Reached(batch_size=b, num_steps=100 + 12800 // b, learning_rate=0.1) for b in (32, 128, 512)]
    >>> curve = fit_curve(made)
    >>> round(curve.fewest_steps), round(curve.critical_batch_size)
    (100, 128)
    """
    check_enough({run.batch_size for run in runs})
    inverse = np.array([1.0 / run.batch_size for run in runs])
    steps = np.array([float(run.num_steps) for run in runs])
    fewest, slope = fit_affine(inverse, steps, 1.0 / steps**2)
    fitted = fewest + slope * inverse
    return StepsCurve(
        fewest_steps=float(fewest),
        fewest_examples=float(slope),
        error_pct=float(100.0 * np.median(np.abs(fitted / steps - 1.0))),
    )
