"""Quantiles of Student's t distribution: how wide the interval of a mean is that few values were averaged into."""

from __future__ import annotations

from math import fsum
from statistics import NormalDist


def student_t(probability: float, freedom: float) -> float:
    """Return a quantile of Student's t distribution, from that of the normal one; within 1 % for 3 or more degrees.

    Args:
        probability: below the quantile.
        freedom: degrees of freedom; weighted means have a fraction of one.

    Source: M. Abramowitz, I. Stegun, "Handbook of Mathematical Functions", 26.7.5.

    >>> round(student_t(0.95, 15), 3)
    1.753
    """
    z = NormalDist().inv_cdf(probability)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + fsum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
