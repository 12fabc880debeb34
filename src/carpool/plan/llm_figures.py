"""The figures of one simulated run of a model that generates, by the same definitions as those of a live server."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

import numpy as np

from carpool.errors import ConfigError
from carpool.plan.figures import BUSY, num_true
from carpool.plan.simulate import Outcome
from carpool.units import format_duration, parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carpool.plan.llm_simulate import LlmRun

    Floats = NDArray[np.float64]

Kind: TypeAlias = Literal["ttft", "tpot"]
_SHARE = 0.99  # of the requests, where an objective does not say
# A queue grows where engines are busy and so many more wait at the end, as a share of what arrived.
_GROWTH = 0.1


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


def figures_of_llm(run: LlmRun, objectives: Sequence[LlmObjective] = (), *, warm_s: float = 0.0) -> LlmFigures:
    """Compute the figures of a run.

    Times are of the requests that arrived in the window, whenever they were answered; rates and the workers' time are
    of the window itself. Where nothing was answered, times are infinite.

    Args:
        run: What was simulated.
        objectives: What times are held against.
        warm_s: Seconds at the run's beginning that fill the server; the window begins after them.
    """
    seen = run.stream.times_s >= warm_s
    answered = seen & (run.outcomes == Outcome.ANSWERED)
    num, window_s = num_true(seen), run.stream.window_s - warm_s
    within = [_within(run, one) & answered for one in objectives]
    good = np.logical_and.reduce([run.outcomes == Outcome.ANSWERED, *(_within(run, one) for one in objectives)])
    over_at = run.stream.times_s + run.latency_s
    in_window = (over_at >= warm_s) & (over_at <= run.stream.window_s)
    used = _busy_s(run, warm_s) / (window_s * run.setup.num_workers)
    tpot_s, gaps_s = run.tpot_s, run.gaps_s[seen[run.gaps_of]]
    steps = run.started_at >= warm_s
    took_s, usage = run.took_s[steps], run.usage[steps]
    return LlmFigures(
        offered=num / window_s,
        throughput=num_true(in_window) / window_s,
        goodput=num_true(in_window & good) / window_s,
        attainment=num_true(good & seen) / num if num else 1.0,
        output_rate=_tokens_within(run, warm_s) / window_s,
        ttft_p50_s=_at(run.ttft_s[answered], 0.5),
        ttft_p99_s=_at(run.ttft_s[answered], 0.99),
        tpot_p50_s=_at(tpot_s[answered], 0.5, none=0.0),
        tpot_p99_s=_at(tpot_s[answered], 0.99, none=0.0),
        itl_p50_s=_at(gaps_s, 0.5, none=0.0),
        itl_p99_s=_at(gaps_s, 0.99, none=0.0),
        latency_p50_s=_at(run.latency_s[answered], 0.5),
        latency_p99_s=_at(run.latency_s[answered], 0.99),
        mean_batch=_mean(run.num_sequences[steps]),
        mean_tokens=_mean(run.num_tokens[steps]),
        kv_usage=float(usage @ took_s / took_s.sum()) if len(took_s) else 0.0,
        kv_peak=float(usage.max(initial=0.0)),
        preemptions=float(run.num_preemptions[seen].sum()) / max(1, num),
        prefix_hits=run.prefix_hits / run.prefix_queries if run.prefix_queries else 0.0,
        utilisation=used,
        refused=num_true(seen & (run.outcomes == Outcome.REFUSED)) / max(1, num),
        at_objectives_s=tuple(_at(_values(run, one)[answered], one.quantile, none=0.0) for one in objectives),
        shares_within=tuple(num_true(one) / num if num else 1.0 for one in within),
        grows=used > BUSY and _waits_grow(run, warm_s),
    )


def _busy_s(run: LlmRun, warm_s: float) -> float:
    """Return the workers' time in steps within the window, of all of them together."""
    begun, over = np.maximum(run.started_at, warm_s), np.minimum(run.started_at + run.took_s, run.stream.window_s)
    return float(np.clip(over - begun, 0.0, None).sum())


def _values(run: LlmRun, objective: LlmObjective) -> Floats:
    return run.ttft_s if objective.kind == "ttft" else run.tpot_s


def _within(run: LlmRun, objective: LlmObjective) -> NDArray[np.bool_]:
    """Tell which requests keep to an objective; an answer of one token has no time between its tokens to keep to."""
    return np.asarray(~(_values(run, objective) > objective.limit_s))


def _tokens_within(run: LlmRun, warm_s: float) -> float:
    """Return the tokens that came in the window: of answers that began or ended outside of it in proportion."""
    first_at = run.stream.times_s + run.ttft_s
    over_at = run.stream.times_s + run.latency_s
    lasted_s = np.maximum(over_at - first_at, 1e-12)
    inside_s = np.minimum(over_at, run.stream.window_s) - np.maximum(first_at, warm_s)
    share = np.clip((inside_s + 1e-12) / lasted_s, 0.0, 1.0)
    return float(np.nansum(share * run.stream.output_lengths))


def _mean(values: NDArray[np.int64]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _at(values: Floats, quantile: float, *, none: float = math.inf) -> float:
    """Return a quantile of what is known, linear between order statistics."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, quantile)) if len(known) else none


def _waits_grow(run: LlmRun, warm_s: float) -> bool:
    """Tell whether many more wait for their first token at the window's end than at its beginning."""
    times_s, window_end = run.stream.times_s, run.stream.window_s
    first_at = np.where(np.isnan(run.ttft_s), math.inf, times_s + run.ttft_s)
    first_at[run.outcomes == Outcome.REFUSED] = -math.inf
    before, after = (num_true((times_s < at) & (first_at > at)) for at in (warm_s, window_end))
    return after - before > _GROWTH * num_true(times_s >= warm_s)
