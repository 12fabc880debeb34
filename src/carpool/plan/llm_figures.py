"""The figures of one simulated run of a model that generates, by the same definitions as those of a live server."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from carpool.errors import ConfigError
from carpool.plan.figures import BUSY, GROWTH
from carpool.plan.simulate import Outcome
from carpool.units import format_duration, parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carpool.plan.llm_simulate import LlmRun

    Floats = NDArray[np.float64]

Kind: TypeAlias = Literal["ttft", "tpot"]
_SHARE = 0.99  # of the requests, where an objective does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmObjective:
    """What a share of the requests must keep to.

    Args:
        kind: `ttft`, the time to the first token, or `tpot`, the time for each token after it.
        limit_s: The most that it may be, in seconds.
        quantile: The share of the requests that must keep to it.
    """

    kind: Kind
    limit_s: float
    quantile: float = _SHARE

    @classmethod
    def parse(cls, text: str) -> LlmObjective:
        """Read `ttft=1s`, or `tpot.p90=150ms` for nine requests in ten; without a percentile it is p99.

        Raises:
            ConfigError: It does not have this form.

        >>> print(LlmObjective.parse("ttft=1s"), "|", LlmObjective.parse("tpot.p90=150ms"))
        p99 of TTFT within 1 s | p90 of TPOT within 150 ms
        """
        match = re.fullmatch(r"\s*(ttft|tpot)(?:\.p(\d{1,2}(?:\.\d+)?))?\s*=\s*(\S+)\s*", text)
        if not match or (match[2] is not None and not float(match[2])):
            raise ConfigError(
                f"{text!r} is not an objective of a model that generates: write ttft=1s, tpot=150ms, or with another "
                "percentile than p99 ttft.p90=1s"
            )
        limit_s = parse_duration_s(match[3])
        if limit_s == 0:
            raise ConfigError(f"{text!r} allows no time at all: give a time above 0, such as {match[1]}=1s")
        share = _SHARE if match[2] is None else round(float(match[2]) / 100, 12)
        return cls(kind=cast("Kind", match[1]), limit_s=limit_s, quantile=share)

    def __str__(self) -> str:
        return f"p{self.quantile * 100:g} of {self.kind.upper()} within {format_duration(self.limit_s)}"


def read_llm_objectives(texts: Sequence[str]) -> tuple[LlmObjective, ...]:
    """Read objectives as they are written on a command line.

    Raises:
        ConfigError: One has another form, or two are of one kind.
    """
    found: dict[str, LlmObjective] = {}
    for text in texts:
        one = LlmObjective.parse(text)
        if one.kind in found:
            raise ConfigError(f"{text!r} and {str(found[one.kind])!r} are both of {one.kind}: give one of them")
        found[one.kind] = one
    return tuple(found[kind] for kind in sorted(found, reverse=True))  # TTFT comes first


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmFigures:
    """What one window amounts to.

    Args:
        offered: Requests a second that arrived.
        throughput: Requests a second that were answered in the window.
        goodput: Requests a second answered within every objective; without any, all that were answered.
        attainment: Share of all that arrived which was answered within every objective.
        output_rate: Tokens generated a second.
        ttft_p50_s: Median time to the first token.
        ttft_p99_s: Its 99th percentile.
        tpot_p50_s: Median time for each token after the first, of a request.
        tpot_p99_s: Its 99th percentile.
        itl_p50_s: Median time between two tokens, of all pairs.
        itl_p99_s: Its 99th percentile.
        latency_p50_s: Median time to the last token.
        latency_p99_s: Its 99th percentile.
        mean_batch: Sequences in a step, on average over the steps.
        mean_tokens: Tokens in a step.
        kv_usage: Share of the blocks that was held, on average over the time that steps ran.
        kv_peak: The largest share of the blocks that was held.
        preemptions: Times that a request was computed anew, on average.
        prefix_hits: Share of the prompts' tokens that was found in the prefix cache.
        utilisation: Share of the workers' time spent in steps.
        refused: Share of all that arrived which was not accepted.
        at_objectives_s: For each objective, what is at its percentile, of those that were answered.
        shares_within: For each objective, the share of all that arrived which kept to it.
        grows: Whether the queue was still growing at the end.
    """

    offered: float
    throughput: float
    goodput: float
    attainment: float
    output_rate: float
    ttft_p50_s: float
    ttft_p99_s: float
    tpot_p50_s: float
    tpot_p99_s: float
    itl_p50_s: float
    itl_p99_s: float
    latency_p50_s: float
    latency_p99_s: float
    mean_batch: float
    mean_tokens: float
    kv_usage: float
    kv_peak: float
    preemptions: float
    prefix_hits: float
    utilisation: float
    refused: float
    at_objectives_s: tuple[float, ...]
    shares_within: tuple[float, ...]
    grows: bool


def figures_of_llm(run: LlmRun, objectives: Sequence[LlmObjective] = ()) -> LlmFigures:
    """Compute the figures of a run.

    Times are of the requests that arrived in the window, whenever they were answered; rates and the workers' time are
    of the window itself. Where nothing was answered, times are infinite.

    Args:
        run: What was simulated.
        objectives: What times are held against.
    """
    answered = run.outcomes == Outcome.ANSWERED
    num, window_s = max(1, len(run.stream)), run.stream.window_s
    in_window = answered & (run.stream.times_s + run.latency_s <= window_s)
    within = [_within(run, one) & answered for one in objectives]
    good = np.logical_and.reduce([answered, *within])
    busy_s = np.clip(np.minimum(run.took_s, window_s - run.started_at), 0.0, None).sum()
    used = float(busy_s) / (window_s * run.setup.num_workers)
    tpot_s, ran_s = run.tpot_s, float(run.took_s.sum())
    return LlmFigures(
        offered=len(run.stream) / window_s,
        throughput=_count(in_window) / window_s,
        goodput=_count(in_window & good) / window_s,
        attainment=_count(good) / num if len(run.stream) else 1.0,
        output_rate=_tokens_in_window(run) / window_s,
        ttft_p50_s=_at(run.ttft_s[answered], 0.5),
        ttft_p99_s=_at(run.ttft_s[answered], 0.99),
        tpot_p50_s=_at(tpot_s[answered], 0.5, none=0.0),
        tpot_p99_s=_at(tpot_s[answered], 0.99, none=0.0),
        itl_p50_s=_at(run.gaps_s, 0.5, none=0.0),
        itl_p99_s=_at(run.gaps_s, 0.99, none=0.0),
        latency_p50_s=_at(run.latency_s[answered], 0.5),
        latency_p99_s=_at(run.latency_s[answered], 0.99),
        mean_batch=_mean(run.num_sequences),
        mean_tokens=_mean(run.num_tokens),
        kv_usage=float(run.usage @ run.took_s) / ran_s if ran_s else 0.0,
        kv_peak=float(run.usage.max(initial=0.0)),
        preemptions=float(run.num_preemptions.sum()) / num,
        prefix_hits=run.prefix_hits / run.prefix_queries if run.prefix_queries else 0.0,
        utilisation=used,
        refused=_count(run.outcomes == Outcome.REFUSED) / num,
        at_objectives_s=tuple(_at(_values(run, one)[answered], one.quantile, none=0.0) for one in objectives),
        shares_within=tuple(_count(one) / num if len(run.stream) else 1.0 for one in within),
        grows=used > BUSY and _waits_grow(run),
    )


def _values(run: LlmRun, objective: LlmObjective) -> Floats:
    return run.ttft_s if objective.kind == "ttft" else run.tpot_s


def _within(run: LlmRun, objective: LlmObjective) -> NDArray[np.bool_]:
    """Tell which requests keep to an objective; an answer of one token has no time between its tokens to keep to."""
    return np.asarray(~(_values(run, objective) > objective.limit_s))


def _tokens_in_window(run: LlmRun) -> float:
    """Return the tokens that came in the window: those of answers that ended later in proportion."""
    begun, last_s = ~np.isnan(run.ttft_s), run.latency_s
    first_at = run.stream.times_s + run.ttft_s
    left_s = run.stream.window_s - first_at
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(last_s > run.ttft_s, left_s / (last_s - run.ttft_s), 1.0)
    share = np.clip(np.nan_to_num(share, nan=0.0), 0.0, 1.0)
    came = begun & (left_s >= 0)
    return float((share * run.stream.output_lengths)[came].sum())


def _count(mask: NDArray[np.bool_]) -> int:
    return int(np.count_nonzero(mask))


def _mean(values: NDArray[np.int64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _at(values: Floats, quantile: float, *, none: float = math.inf) -> float:
    """Return a quantile of what is known, linear between order statistics."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, quantile)) if len(known) else none


def _waits_grow(run: LlmRun) -> bool:
    """Tell whether first tokens of the window's last third came much later than those of the middle one."""
    known = ~np.isnan(run.ttft_s)
    third = np.minimum(run.stream.times_s[known] * 3 // run.stream.window_s, 2)
    ttft_s = run.ttft_s[known]
    middle_s, last_s = ttft_s[third == 1], ttft_s[third == 2]  # noqa: PLR2004 - thirds are 0, 1 and 2
    unanswered = _count(run.outcomes == Outcome.LEFT) > 0
    return bool(unanswered or (len(middle_s) and len(last_s) and last_s.mean() > GROWTH * middle_s.mean()))
