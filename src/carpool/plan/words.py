"""Words for what plans are made of: the same in sentences, tables and pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.units import counted, format_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.plan.predict import Interval
    from carpool.plan.setup import Setup

_FEW = 6
# A change below this is none; from twice as high on, it is said in times.
_SAME, _MANIFOLD = 0.03, 2.0


def describe_setup(setup: Setup) -> str:
    """Say in a few words how batches are formed.

    >>> from carpool.core.policy import Policy
    >>> from carpool.plan.setup import Setup
    >>> describe_setup(Setup(policy=Policy(max_batch_size=16, max_wait_s=0.002), num_workers=2))
    'batches of up to 16, waiting up to 2 ms, on 2 workers'
    >>> describe_setup(Setup(policy=Policy(max_batch_size=1)))
    'no batching, on 1 worker'
    """
    policy = setup.policy
    parts = [f"batches of up to {policy.max_batch_size}" if policy.max_batch_size > 1 else "no batching"]
    if policy.max_wait_s:
        parts.append(f"waiting up to {format_duration(policy.max_wait_s)}")
    if policy.token_budget is not None:
        parts.append(f"at most {policy.token_budget:,} padded tokens")
    if policy.length_buckets:
        parts.append(f"padded to {_listed(policy.length_buckets)}")
    return ", ".join([*parts, f"on {counted(setup.num_workers, 'worker')}"])


def _listed(values: tuple[int, ...]) -> str:
    shown = values if len(values) <= _FEW else (*values[: _FEW - 2], "…", values[-1])
    return ", ".join(map(str, shown))


def among(found: Interval, form: Callable[[float], str]) -> str:
    """Write a figure with its interval.

    >>> from carpool.plan.predict import Interval
    >>> among(Interval(value=0.031, low=0.027, high=0.036), format_duration)
    '31 ms (27 ms to 36 ms)'
    """
    return f"{form(found.value)} ({form(found.low)} to {form(found.high)})"


def changed(now: float, other: float) -> str:
    """Say how another value compares with the one now.

    >>> changed(100.0, 101.0), changed(100.0, 112.0), changed(100.0, 70.0), changed(100.0, 350.0)
    ('about the same', '12% higher', '30% lower', '3.5 times as high')
    """
    ratio = other / now if now else 1.0
    if abs(ratio - 1) < _SAME:
        return "about the same"
    if ratio >= _MANIFOLD:
        return f"{ratio:.2g} times as high"
    return f"{abs(ratio - 1):.0%} {'higher' if ratio > 1 else 'lower'}"
