"""The gradient noise scale, from the norms of the gradients of a window's micro-batches; numbers only, no torch.

    noise scale = tr(Sigma) / |G|^2

G is the gradient of all the data, Sigma how the gradients of single items scatter about it. A mean over B items has
the squared norm `|G|^2 + tr(Sigma)/B` on average: two sizes of batch tell the two apart, and a window that is computed
in micro-batches has both.

Source: S. McCandlish, J. Kaplan, D. Amodei, "An Empirical Model of Large-Batch Training", 2018, arXiv 1812.06162,
section 2.2 and appendix A.1, for micro-batches of unequal sizes, and for items that are drawn without replacement.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

from carpool.core.limits import check_whole
from carpool.cost.student import student_t
from carpool.errors import ConfigError
from carpool.train.noise.numbers import number
from carpool.train.noise.ratio import PairedMeans
from carpool.units import counted, format_count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEAST_WINDOWS = 3
"""Fewer say too little of how they scatter."""

_LEAST_DECAY = 0.8
# What rounding may do to squared norms where gradients are added up in bfloat16.
_ROUNDING = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowNorms:
    """What a window says: the squared norms of its gradients, each the mean over its items.

    Args:
        num_valid: valid items of the window, over all ranks.
        num_micro_batches: micro-batches that had any, over all ranks.
        weighted_squares: sum over them of their valid items times the squared norm of their gradient.
        squared_norm: of the window's gradient.
    """

    num_valid: int
    num_micro_batches: int
    weighted_squares: float
    squared_norm: float

    @classmethod
    def of(cls, sizes: Sequence[int], squared_norms: Sequence[float], squared_norm: float) -> WindowNorms:
        """Put them together from the norms of each micro-batch.

        Args:
            sizes: valid items of each micro-batch.
            squared_norms: of each micro-batch's mean gradient; that of an empty one is not looked at.
            squared_norm: of the window's mean gradient.

        >>> WindowNorms.of([2, 2], [4.0, 2.0], 1.5).parts()
        (6.0, 0.0)
        """
        pairs = [(size, square) for size, square in zip(sizes, squared_norms, strict=True) if size]
        return cls(
            num_valid=sum(size for size, _ in pairs),
            num_micro_batches=len(pairs),
            weighted_squares=sum(size * square for size, square in pairs),
            squared_norm=squared_norm,
        )

    def parts(self, num_items: int | None = None) -> tuple[float, float]:
        """Estimate the two parts of the noise scale, each without bias.

        Args:
            num_items: valid items of the training data where a pass takes each once; None for items drawn
                independently, as from a stream without end.

        Returns:
            tr(Sigma), and |G|^2, which chance may push below 0.

        Raises:
            ConfigError: the window has one micro-batch, or more items than there are, or a mean that is longer than
                what it is a mean of.
        """
        if self.num_micro_batches < 2:  # noqa: PLR2004 - one says nothing of scatter
            raise ConfigError(
                f"a window of {counted(self.num_micro_batches, 'micro-batch')} says nothing of the noise: it takes 2, "
                "on one rank or on several"
            )
        if num_items is not None and self.num_valid > num_items:
            raise ConfigError(
                f"a window has {self.num_valid} valid items, and num_items says that there are {num_items} in all: "
                "count both alike (tokens with a label, where those are valid items), or leave num_items out"
            )
        between = self.weighted_squares - self.num_valid * self.squared_norm
        if between < -_ROUNDING * self.num_valid * self.squared_norm:
            raise ConfigError(
                f"the window's gradient has the squared norm {self.squared_norm:.4g}, and its micro-batches' only "
                f"{self.weighted_squares / self.num_valid:.4g} on average, which no mean can have: some of their "
                "gradients were not seen (sharded parameters), or were scaled by another factor than was told"
            )
        variance = between / (self.num_micro_batches - 1)
        drawn_again = 1 / num_items if num_items is not None else 0.0
        return variance, self.squared_norm - variance * (1 / self.num_valid - drawn_again)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseEstimate:
    """What is known of the noise scale.

    Args:
        noise_scale: in valid items; infinite where |G|^2 is not above 0.
        low: lower end of its confidence interval.
        high: upper end; infinite where `identified` is false.
        S: mean of tr(Sigma).
        G2: mean of |G|^2.
        num_windows: that were taken in.
        confidence: of the interval.
        identified: whether |G|^2 can be told from 0; if not, only `low` says anything.
    """

    noise_scale: float
    low: float
    high: float
    S: float
    G2: float
    num_windows: int
    confidence: float
    identified: bool

    @property
    def text(self) -> str:
        """The estimate in words."""
        if self.num_windows < LEAST_WINDOWS:
            seen = counted(self.num_windows, "window")
            return f"noise scale not identified: {seen} of at least 2 micro-batches seen, and it takes {LEAST_WINDOWS}"
        windows = f"{self.confidence:.0%}, {counted(self.num_windows, 'window')}"
        if not self.identified:
            least = f"; it is at least {format_count(self.low)}" if self.low else ""
            return f"noise scale not identified: the gradient can't be told from its noise ({windows}){least}"
        low, high = format_count(self.low), format_count(self.high)
        return f"noise scale {format_count(self.noise_scale)}, from {low} to {high} ({windows})"

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True, kw_only=True)
class NoiseAverages:
    """Averages tr(Sigma) and |G|^2 over windows, apart from one another, and divides them last.

    A ratio of each window would be biased, and often infinite. A window counts by its items.

    Args:
        num_items: valid items of the training data where a pass takes each once; None for items drawn independently.
        decay: what the weight of each earlier window is multiplied by: 1 averages over all.
        confidence: of the interval.

    Raises:
        ConfigError: one of them is out of its range.

    >>> averages = NoiseAverages()
    >>> for first in (2.3, 2.5, 2.4, 2.5):
    ...     averages.add(WindowNorms.of([8, 8], [first, 2.4], 2.0))
    >>> print(averages.estimate())
    noise scale 4.16, from 3.24 to 5.17 (95%, 4 windows)
    """

    num_items: int | None = None
    decay: float = 1.0
    confidence: float = 0.95
    num_windows: int = field(default=0, init=False)
    _means: PairedMeans = field(default_factory=PairedMeans, init=False)

    def __post_init__(self) -> None:
        if self.num_items is not None:
            check_whole("num_items", self.num_items)
        if not _LEAST_DECAY <= number(self.decay) <= 1:
            raise ConfigError(
                f"decay is {self.decay!r}; it must be from {_LEAST_DECAY} to 1: below, what is kept says too little of "
                "how windows scatter"
            )
        if not 0.5 <= number(self.confidence) < 1:  # noqa: PLR2004 - below, an interval is none
            raise ConfigError(f"confidence is {self.confidence!r}; it must be from 0.5 to below 1, as 0.95")

    def add(self, window: WindowNorms) -> None:
        """Take a window in.

        Args:
            window: with at least two micro-batches.

        Raises:
            ConfigError: it says nothing, or can't be.
        """
        self._means.add(*window.parts(self.num_items), weight=window.num_valid, decay=self.decay)
        self.num_windows += 1

    def estimate(self) -> NoiseEstimate:
        """Say what is known so far."""
        variance, squared = self._means.numerator, self._means.denominator
        low, high = 0.0, inf
        if self.num_windows >= LEAST_WINDOWS:
            quantile = student_t((1 + self.confidence) / 2, self._means.num_effective - 1)
            low, high = self._means.interval(quantile)
        return NoiseEstimate(
            noise_scale=max(variance, 0.0) / squared if squared > 0 else inf,
            low=low,
            high=high,
            S=variance,
            G2=squared,
            num_windows=self.num_windows,
            confidence=self.confidence,
            identified=high < inf,
        )

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"num_windows": self.num_windows, "means": self._means.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Args:
            state: from `state_dict`.

        Raises:
            ConfigError: it is not one.
        """
        try:
            num_windows, means = int(state["num_windows"]), PairedMeans.from_state_dict(state["means"])
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"the checkpoint's noise averages can't be read ({error!r}): leave them out") from error
        self.num_windows, self._means = num_windows, means
