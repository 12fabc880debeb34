"""What a step of an LLM costs: seconds by the tokens that it computes and those in the cache that they look at.

`t = c0 + c1 tokens + c2 sequences + c3 kv_read + c4 prefill_pairs`, no term negative: c0 is what every step moves and
launches (the weights), c1 a token's share of the matrix products, c2 what a sequence adds whatever its context (its
logits, its own call of the attention), c3 a token of the cache that a single token looks at, and c4 a pair of tokens
within and before a longer chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, sqrt
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.step import StepWork
from carpool.cost.least_squares import nonnegative
from carpool.cost.points import Z_95, relative_sd, weights
from carpool.errors import ConfigError, OutOfRange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

KNEE_SHARE = 0.95
# Fewer steps than this can't tell the terms apart, whatever they are.
LEAST_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMeasurement:
    """The median time of one kind of step, with its 95 % confidence interval.

    Args:
        work: What the step computed.
        time_s: Median seconds.
        low_s: Lower end of the interval, in seconds.
        high_s: Upper end of the interval, in seconds.
    """

    work: StepWork
    time_s: float
    low_s: float
    high_s: float

    @property
    def relative_sd(self) -> float:
        """The measurement's own standard error, relative to its time."""
        return relative_sd(self.time_s, self.low_s, self.high_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRange:
    """The most of each that a measured step had.

    Args:
        num_tokens: Tokens in a step.
        num_sequences: Sequences in a step.
        kv_read: Tokens of the cache that single tokens looked at.
        prefill_pairs: Pairs of tokens within and before longer chunks.
    """

    num_tokens: int
    num_sequences: int
    kv_read: int
    prefill_pairs: float

    def beyond(self, work: StepWork) -> str:
        """Say by what a step lies outside; empty where it does not.

        >>> StepRange(num_tokens=64, num_sequences=64, kv_read=4096, prefill_pairs=0.0).beyond(decode_work(128, 16))
        '128 tokens in a step, measured up to 64'
        """
        for name, words in (
            ("num_tokens", "tokens in a step"),
            ("num_sequences", "sequences in a step"),
            ("kv_read", "tokens of the cache read by a step"),
            ("prefill_pairs", "pairs of tokens in the chunks of a step"),
        ):
            value, most = getattr(work, name), getattr(self, name)
            if value > most:
                return f"{value:,.0f} {words}, measured up to {most:,.0f}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """What a step costs on the machine where it was measured.

    Args:
        step_s: Seconds of any step, whatever is in it.
        token_s: Seconds more for each token.
        sequence_s: Seconds more for each sequence.
        kv_s: Seconds more for each token of the cache that a single token looks at.
        pair_s: Seconds more for each pair of tokens within and before longer chunks.
        most: The range that was measured.
        error_pct: Median size of the errors made on steps that the fit had not seen, in per cent.
        worst_error_pct: The largest of them.
        worst_error_at: The step where it was made.
        residual_sd: Standard deviation of the fit's error, relative to the time.
        measurement_sd: Median standard error of the measurements, relative to the time.
        measured_on: Device, dtype, threads, versions: what the numbers hold for.
    """

    step_s: float
    token_s: float
    sequence_s: float
    kv_s: float
    pair_s: float
    most: StepRange
    error_pct: float
    worst_error_pct: float
    worst_error_at: StepWork
    residual_sd: float
    measurement_sd: float
    measured_on: dict[str, str] = field(default_factory=dict)

    def time_s(self, work: StepWork) -> float:
        """Return the predicted seconds of a step.

        Raises:
            OutOfRange: The step lies outside what was measured; the message names the value, the range, the remedy.
        """
        self.check(work)
        return self.line_s(work)

    def line_s(self, work: StepWork) -> float:
        """Return the same for any step: beyond what was measured the line is prolonged."""
        return (
            self.step_s
            + self.token_s * work.num_tokens
            + self.sequence_s * work.num_sequences
            + self.kv_s * work.kv_read
            + self.pair_s * work.prefill_pairs
        )

    def check(self, work: StepWork) -> None:
        """Refuse a step outside what was measured.

        Raises:
            OutOfRange: Names the value, the range and the remedy.
        """
        beyond = self.most.beyond(work)
        if beyond:
            raise OutOfRange(f"{beyond}: profile again with larger --batch-sizes, --lengths or --chunks")

    def time_interval_s(self, work: StepWork) -> tuple[float, float]:
        """Return the seconds that 95 % of such medians should lie between: error of fit and of measurement together.

        Raises:
            OutOfRange: The step lies outside what was measured.
        """
        time_s = self.time_s(work)
        factor = exp(Z_95 * sqrt(self.residual_sd**2 + self.measurement_sd**2))
        return time_s / factor, time_s * factor

    def clipped(self) -> ProlongedStepCost:
        """Return the same model for a scheduler: it answers for every step."""
        return ProlongedStepCost(cost=self)

    def decode_rate(self, batch_size: int, context: int) -> float:
        """Return tokens a second of so many sequences that generate, each with so many tokens in the cache."""
        return batch_size / self.line_s(decode_work(batch_size, context))

    def knee(self, context: int, *, share: float = KNEE_SHARE) -> int:
        """Return the fewest sequences whose throughput is at least `share` of the best within the range.

        Args:
            context: Tokens of each in the cache.
            share: Of the best throughput.
        """
        most = self.most_sequences(context)
        rates = [self.decode_rate(size, context) for size in range(1, most + 1)]
        return next(size for size, rate in enumerate(rates, start=1) if rate >= share * max(rates))

    def most_sequences(self, context: int) -> int:
        """Return how many sequences of such a context the range covers; at least one."""
        return max(1, min(self.most.num_sequences, self.most.num_tokens, self.most.kv_read // max(1, context)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProlongedStepCost:
    """A step's cost that answers for every step and never raises: what a scheduler needs of one."""

    cost: StepCost

    def time_s(self, work: StepWork) -> float:
        """Return the predicted seconds of any step."""
        return self.cost.line_s(work)


def decode_work(batch_size: int, context: int) -> StepWork:
    """Return the work of a step in which so many sequences get one token each.

    Args:
        batch_size: Sequences.
        context: Tokens of each in the cache once the step is done, its own token included.
    """
    return StepWork(
        num_tokens=batch_size,
        num_sequences=batch_size,
        num_sampled=batch_size,
        kv_read=batch_size * context,
        prefill_pairs=0.0,
    )


def prefill_work(num_tokens: int, start: int, *, samples: bool = True) -> StepWork:
    """Return the work of a step that computes one piece of one prompt.

    Args:
        num_tokens: Tokens of the piece; one alone looks at the cache as those do that are generated.
        start: Tokens before it, in the cache.
        samples: Whether the prompt ends with it.
    """
    is_single = num_tokens == 1
    return StepWork(
        num_tokens=num_tokens,
        num_sequences=1,
        num_sampled=int(samples),
        kv_read=start + 1 if is_single else 0,
        prefill_pairs=0.0 if is_single else num_tokens * (start + num_tokens / 2),
    )


def joined(*works: StepWork) -> StepWork:
    """Return the work of a step that does several things at once."""
    return StepWork(
        num_tokens=sum(one.num_tokens for one in works),
        num_sequences=sum(one.num_sequences for one in works),
        num_sampled=sum(one.num_sampled for one in works),
        kv_read=sum(one.kv_read for one in works),
        prefill_pairs=sum(one.prefill_pairs for one in works),
    )


def fit_step_cost(points: Sequence[StepMeasurement], *, measured_on: Mapping[str, str]) -> StepCost:
    """Fit the five terms by non-negative least squares on relative error.

    Args:
        points: Steps of several kinds, in any order; at least three that differ.
        measured_on: What the numbers hold for: device, dtype, threads, versions.

    Raises:
        ConfigError: Too few steps, or one whose time cannot be true.

    Source: Lawson and Hanson, *Solving Least Squares Problems*, 1974, chapter 23.

    >>> points = [
    ...     StepMeasurement(work=decode_work(b, n), time_s=t, low_s=t, high_s=t)
    ...     for b in (1, 4, 16)
    ...     for n in (64, 256)
    ...     for t in [0.01 + 0.0002 * b + 1e-6 * b * n]
    ... ]
    >>> cost = fit_step_cost(points, measured_on={"device": "cpu"})
    >>> round(cost.time_s(decode_work(8, 128)), 6), round(cost.error_pct, 6)
    (0.012624, 0.0)
    """
    _check(points)
    times_s = np.array([point.time_s for point in points])
    roots = np.sqrt(weights(points))
    design = np.array([columns_of(point.work) for point in points]) * roots[:, None]
    terms = nonnegative(design, times_s * roots)
    errors = _held_out_errors(design, times_s * roots)
    sizes = np.abs(np.expm1(errors))
    worst = int(np.argmax(sizes))
    fitted = np.log((design @ terms) / (times_s * roots))
    freedom = max(1, len(points) - int(np.count_nonzero(terms)))
    step_s, token_s, sequence_s, kv_s, pair_s = terms.tolist()
    return StepCost(
        step_s=step_s,
        token_s=token_s,
        sequence_s=sequence_s,
        kv_s=kv_s,
        pair_s=pair_s,
        most=_range_of([point.work for point in points]),
        error_pct=float(100.0 * np.median(sizes)),
        worst_error_pct=float(100.0 * sizes[worst]),
        worst_error_at=points[worst].work,
        residual_sd=max(sqrt(float((fitted**2).sum()) / freedom), sqrt(float(np.mean(errors**2)))),
        measurement_sd=float(np.median([point.relative_sd for point in points])),
        measured_on=dict(measured_on),
    )


def columns_of(work: StepWork) -> tuple[float, ...]:
    """What each of the five terms of a step's time is multiplied by: one, tokens, sequences, KV read, pairs."""
    return 1.0, float(work.num_tokens), float(work.num_sequences), float(work.kv_read), work.prefill_pairs


def _held_out_errors(design: Floats, target: Floats) -> Floats:
    """Return the logarithm of predicted over measured for each step, by a fit to all the others."""
    rest = ~np.eye(len(target), dtype=bool)
    predicted = np.array([design[i] @ nonnegative(design[rest[i]], target[rest[i]]) for i in range(len(target))])
    return np.asarray(np.log(np.maximum(predicted, 1e-9 * target) / target))


def _range_of(works: Sequence[StepWork]) -> StepRange:
    return StepRange(
        num_tokens=max(work.num_tokens for work in works),
        num_sequences=max(work.num_sequences for work in works),
        kv_read=max(work.kv_read for work in works),
        prefill_pairs=max(work.prefill_pairs for work in works),
    )


def _check(points: Sequence[StepMeasurement]) -> None:
    if len({columns_of(point.work) for point in points}) < LEAST_STEPS:
        raise ConfigError(
            f"cannot fit a step's cost to {len(points)} steps: it needs at least {LEAST_STEPS} that differ; measure "
            "more --batch-sizes, --lengths or --chunks"
        )
    for point in points:
        values = (point.time_s, point.low_s, point.high_s)
        if not all(np.isfinite(values)) or point.time_s <= 0.0 or point.work.num_tokens < 1:
            raise ConfigError(
                f"cannot fit a step's cost to {point.time_s!r} s (from {point.low_s!r} to {point.high_s!r}) of "
                f"{point.work.num_tokens} tokens: the time must be positive and finite, and there must be a token"
            )
