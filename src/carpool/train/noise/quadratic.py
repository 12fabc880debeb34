"""A training problem in which the steps of every batch size are known: the noisy quadratic.

Each coordinate has its own curvature and its own noise, and gradient descent moves it alone:

    E theta_i^2  <-  (1 - a h_i)^2 E theta_i^2 + a^2 c_i / B        loss = 1/2 sum of h_i E theta_i^2

at the learning rate a and the batch size B. It shows what the noise scale leaves out: curvatures that differ.

Source: G. Zhang and others, "Which Algorithmic Choices Matter at Which Batch Sizes? Insights From a Noisy Quadratic
Model", 2019, arXiv 1907.04164, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.limits import check_whole
from carpool.errors import ConfigError, OutOfRange

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_NUM_RATES = 400
_LEAST_RATE = 1e-3  # of the largest that is stable


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NoisyQuadratic:
    """A quadratic loss whose gradient is noisy, with axes along the coordinates.

    Args:
        curvature: of each coordinate, above 0 [d].
        noise: variance of each coordinate of one item's gradient, not below 0 [d].
        start: mean square of each coordinate at the start, not below 0 [d].

    Raises:
        ConfigError: the arrays are not alike in shape, or a number is out of its range.

    >>> h = 1 / np.arange(1, 201)
    >>> problem = NoisyQuadratic(curvature=h, noise=h, start=np.ones(200))
    >>> [problem.num_steps(batch_size, target=0.05) for batch_size in (32, 1024)]
    [103, 46]
    """

    curvature: Floats
    noise: Floats
    start: Floats

    def __post_init__(self) -> None:
        shapes = {np.shape(array) for array in (self.curvature, self.noise, self.start)}
        if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
            raise ConfigError(f"curvature, noise and start have the shapes {sorted(shapes)}: give three vectors alike")
        for name, least in (("curvature", np.nextafter(0.0, 1.0)), ("noise", 0.0), ("start", 0.0)):
            values = getattr(self, name)
            if not (np.isfinite(values).all() and (values >= least).all()):
                raise ConfigError(f"{name} must be finite and {'above' if least else 'not below'} 0 in each coordinate")

    @property
    def noise_scale(self) -> float:
        """The noise scale at the start, tr(Sigma) / E|G|^2."""
        return float(self.noise.sum() / (self.curvature**2 * self.start).sum())

    def num_steps(self, batch_size: int, *, target: float, most_steps: int = 100_000) -> int:
        """Steps until the loss is down to a share of what it was, at the learning rate that gets there first.

        The rate stays the same from the first step to the last; 400 of them race each other.

        Args:
            batch_size: items of a step.
            target: share of the loss at the start, between 0 and 1.
            most_steps: when to give up.

        Raises:
            ConfigError: the target is no such share.
            OutOfRange: none arrives in `most_steps`.
        """
        check_whole("batch_size", batch_size)
        if not 0 < target < 1:
            raise ConfigError(f"target is {target!r}; it must be a share of the loss at the start, between 0 and 1")
        rates = np.geomspace(_LEAST_RATE, 1.0, _NUM_RATES, endpoint=False)[:, None] * 2.0 / self.curvature.max()
        kept = (1.0 - rates * self.curvature) ** 2  # (rates, d)
        added = rates**2 * self.noise / batch_size
        squares = np.broadcast_to(self.start, kept.shape).copy()
        goal = target * float(self.curvature @ self.start)
        for num_steps in range(1, most_steps + 1):
            squares *= kept
            squares += added
            if float((squares @ self.curvature).min()) <= goal:
                return num_steps
        raise OutOfRange(
            f"the loss is above {target:g} of its start after {most_steps:,} steps of {batch_size} items at every "
            "learning rate: take larger batches, or a higher target"
        )
