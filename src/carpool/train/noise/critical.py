"""Steps against examples: what a batch costs in either, over the least that any batch could do with.

    steps(B) = S (1 + N / B)        examples(B) = E (1 + B / N)        N = E / S

Far below the critical batch size N, a batch twice as large takes half the steps; far above it, twice the examples. At
it, both are twice the least. The noise scale stands for N where the loss is a quadratic whose curvature is the same in
all directions; elsewhere it tells N's order of magnitude, which `measure_critical_batch` measures.

Source: S. McCandlish, J. Kaplan, D. Amodei, "An Empirical Model of Large-Batch Training", 2018, arXiv 1812.06162,
section 2.3.
"""

from __future__ import annotations

from math import inf

from carpool.errors import ConfigError
from carpool.train.noise.numbers import number


def more_steps(batch_size: float, critical_batch_size: float) -> float:
    """Steps to a target over the fewest that any batch takes, `1 + N / B`.

    Args:
        batch_size: effective batch, in valid items.
        critical_batch_size: in the same.

    Raises:
        ConfigError: one of them is not above 0.

    >>> more_steps(64, 64), more_steps(640, 64)
    (2.0, 1.1)
    """
    _check(batch_size, critical_batch_size)
    return 1.0 + critical_batch_size / batch_size


def more_examples(batch_size: float, critical_batch_size: float) -> float:
    """Examples to a target over the fewest that any batch takes, `1 + B / N`.

    Args:
        batch_size: effective batch, in valid items.
        critical_batch_size: in the same.

    Raises:
        ConfigError: one of them is not above 0.

    >>> more_examples(64, 64), more_examples(640, 64)
    (2.0, 11.0)
    """
    _check(batch_size, critical_batch_size)
    return 1.0 + batch_size / critical_batch_size


def _check(batch_size: float, critical_batch_size: float) -> None:
    for name, value in (("batch_size", batch_size), ("critical_batch_size", critical_batch_size)):
        if not 0 < number(value) < inf:
            raise ConfigError(f"{name} is {value!r}; it must be a finite number above 0")
