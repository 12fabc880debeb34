"""What one open loop amounts to: how many requests had their tokens in time, and how far apart the tokens came."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rig.llm.work import Request

TTFT_LIMIT_S = 1.0
TPOT_LIMIT_S = 0.150


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopFigures:
    """An open loop in figures.

    Args:
        num: requests that came.
        num_unfinished: of these, without all of their tokens when the patience ended.
        share_in_time: of all, with a TTFT and a TPOT within the limits.
        goodput: of these, requests a second.
        ttft_p50_s: median time to the first token, from when the request was due.
        ttft_p99_s: 99th percentile of it; infinite where that many never had one.
        itl_p50_s: median gap between tokens, over all requests.
        itl_p99_s: 99th percentile of it; infinite where there was none.
    """

    num: int
    num_unfinished: int
    share_in_time: float
    goodput: float
    ttft_p50_s: float
    ttft_p99_s: float
    itl_p50_s: float
    itl_p99_s: float


def in_time(due: float, tokens_at: Sequence[float], num_output: int) -> bool:
    """Tell whether a request had its first token and the pace of the others within the limits.

    Args:
        due: when it was submitted, seconds.
        tokens_at: when its tokens came.
        num_output: how many were to come.

    Example:
        >>> in_time(1.0, [1.5, 1.6, 1.7], 3), in_time(1.0, [2.5, 2.6, 2.7], 3), in_time(1.0, [1.5, 1.6], 3)
        (True, False, False)
    """
    if len(tokens_at) < num_output:
        return False
    pace_s = (tokens_at[-1] - tokens_at[0]) / max(1, num_output - 1)
    return tokens_at[0] - due <= TTFT_LIMIT_S and pace_s <= TPOT_LIMIT_S


def figures(
    requests: Sequence[Request], due: Sequence[float], records: Sequence[Sequence[float]], seconds: float
) -> LoopFigures:
    """Sum an open loop up.

    Args:
        requests: what came.
        due: when.
        records: for each request, when its tokens came.
        seconds: for how long requests came.
    """
    wanted = [request["num_output"] for request in requests]
    good = sum(map(in_time, due, records, wanted))
    ttfts = [record[0] - at if record else math.inf for record, at in zip(records, due, strict=True)]
    gaps = [after - before for record in records for before, after in pairwise(record)]
    return LoopFigures(
        num=len(wanted),
        num_unfinished=sum(len(record) < num for record, num in zip(records, wanted, strict=True)),
        share_in_time=good / len(wanted),
        goodput=good / seconds,
        ttft_p50_s=_quantile(ttfts, 0.5),
        ttft_p99_s=_quantile(ttfts, 0.99),
        itl_p50_s=_quantile(gaps, 0.5),
        itl_p99_s=_quantile(gaps, 0.99),
    )


def _quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that such a share of all does not exceed."""
    return float(np.quantile(values, q, method="inverted_cdf")) if values else math.inf
