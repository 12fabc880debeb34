"""The ratio of two means that were measured together, with its confidence interval."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

_FIELDS = (
    "weight",
    "squared_weight",
    "numerator",
    "denominator",
    "numerator_spread",
    "denominator_spread",
    "common_spread",
)


@dataclass(slots=True)
class PairedMeans:
    """Weighted means of two quantities that come in pairs, and how the pairs scatter; older ones may fade.

    A few sums are kept, not the pairs.

    Source: B. P. Welford, "Note on a Method for Calculating Corrected Sums of Squares and Products", Technometrics
    4(3), 1962, with weights.

    >>> means = PairedMeans()
    >>> for pair in ((2.0, 1.0), (4.0, 3.0)):
    ...     means.add(*pair)
    >>> means.numerator, means.denominator, means.num_effective
    (3.0, 2.0, 2.0)
    """

    weight: float = 0.0
    squared_weight: float = 0.0
    numerator: float = 0.0
    denominator: float = 0.0
    numerator_spread: float = 0.0
    denominator_spread: float = 0.0
    common_spread: float = 0.0

    def add(self, numerator: float, denominator: float, *, weight: float = 1.0, decay: float = 1.0) -> None:
        """Take a pair in.

        Args:
            numerator: of the pair.
            denominator: of the pair.
            weight: of the pair, above 0.
            decay: what the weight of every earlier pair is multiplied by.
        """
        self.weight = decay * self.weight + weight
        self.squared_weight = decay**2 * self.squared_weight + weight**2
        share = weight / self.weight
        up, down = numerator - self.numerator, denominator - self.denominator
        self.numerator += share * up
        self.denominator += share * down
        rest = weight * (1 - share)
        self.numerator_spread = decay * self.numerator_spread + rest * up * up
        self.denominator_spread = decay * self.denominator_spread + rest * down * down
        self.common_spread = decay * self.common_spread + rest * up * down

    @property
    def num_effective(self) -> float:
        """Pairs of equal weight that would give means as steady as these.

        Source: L. Kish, *Survey Sampling*, 1965, section 11.7.
        """
        return self.weight**2 / self.squared_weight if self.weight else 0.0

    def interval(self, quantile: float) -> tuple[float, float]:
        """Return the interval of the ratio of the two means.

        It has no upper end where the denominator can't be told from 0, or is below it.

        Args:
            quantile: standard errors to either side, from Student's t.

        Returns:
            Its ends, none below 0.

        Source: E. C. Fieller, "Some Problems in Interval Estimation", J. R. Statist. Soc. B 16(2), 1954: the ratios r
        at which `numerator - r denominator` can't be told from 0.
        """
        scale = quantile**2 / (self.weight * (self.num_effective - 1))
        # The ratios r with `square r^2 - 2 linear r + constant <= 0`.
        square = self.denominator**2 - scale * self.denominator_spread
        linear = self.numerator * self.denominator - scale * self.common_spread
        constant = self.numerator**2 - scale * self.numerator_spread
        root = sqrt(max(linear**2 - square * constant, 0.0))
        if self.denominator > 0 and square > 0:
            return max((linear - root) / square, 0.0), max((linear + root) / square, 0.0)
        # Turned over, so that nothing is divided by what is 0: r >= constant / (linear + root) where that is positive.
        least = constant / (linear + root) if constant > 0 and linear + root > 0 else 0.0
        return least, inf

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint keeps."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, float]) -> Self:
        """Make the means that a checkpoint holds.

        Args:
            state: from `state_dict`.
        """
        return cls(*(float(state[name]) for name in _FIELDS))
