"""What a check amounts to in words: whether prediction and measurement agree, and if not, why not."""

from __future__ import annotations

import shlex
import statistics
from math import exp, hypot, log
from types import MappingProxyType
from typing import TYPE_CHECKING

from carpool.loadgen.stats import summarise
from carpool.profile.wording import listed
from carpool.units import capitalised, counted, format_count, format_durations
from carpool.verify.beside import KINDS, shown
from carpool.verify.compare import QUIET_CORES
from carpool.verify.explain import typical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carpool.profile.artefact import Profile
    from carpool.verify.beside import Beside
    from carpool.verify.check import Check
    from carpool.verify.compare import Tone
    from carpool.verify.explain import Steps

TOLERANCES_PCT: Mapping[str, float] = MappingProxyType(
    {"throughput": 5.0, "mean_batch_size": 5.0, "p50_s": 10.0, "p99_s": 20.0}
)
"""The errors up to which a prediction is called right, by the name of the figure."""

NOTHING = 1e-9
TWO_DIGITS_BELOW = 100
LEAST_PART = 0.02  # of a difference; less is not told
NEAR_PACE = TOLERANCES_PCT["p50_s"] / 100  # what makes no prediction wrong needs no remedy


def missed(rows: Sequence[Beside]) -> tuple[Beside, ...]:
    """Return the figures whose prediction is not right; one that has no error at all is not."""
    judged = (row for row in rows if row.name in TOLERANCES_PCT)
    return tuple(row for row in judged if not row.error_pct <= TOLERANCES_PCT[row.name])


def verdict(rows: Sequence[Beside]) -> tuple[Tone, str]:
    """Say in one sentence whether prediction and measurement agree.

    Args:
        rows: every figure.
    """
    judged = [row for row in rows if row.name in TOLERANCES_PCT]
    errors = ", ".join(f"{row.kind.label} {row.error_pct:.1f} %" for row in judged)
    inside = [one for row in shown(rows) for one in row.inside]
    held = f"{sum(inside)} of {len(inside)} measured values lie in their 90 % intervals"
    over = missed(rows)
    if not over:
        return "good", f"What was predicted is what was measured: errors of {errors}; {held}."
    names = listed([row.kind.label for row in over])
    if within_chance(rows):
        return "good", (
            f"What differs from the prediction, most of all {names}, is within chance: errors of {errors}; {held}. A "
            "longer window tells more."
        )
    return "warning", f"The prediction is off in {names}: errors of {errors}; {held}."


def within_chance(rows: Sequence[Beside]) -> bool:
    """Tell whether every measured value lies in its interval, however far from the middle."""
    return all(one for row in shown(rows) for one in row.inside)


def reasons(check: Check, rows: Sequence[Beside]) -> tuple[str, ...]:
    """Say of each figure that is off where the difference comes from, and what else there is to know.

    Args:
        check: the plan beside what came of it.
        rows: every figure of it.
    """
    over = () if within_chance(rows) else missed(rows)
    steps = typical([one.steps for one in check.findings.observed])
    explained = [explanation(check, one) for one in steps if one.name in {row.name for row in over}]
    shared = [_shared_cores(check)] if over else []
    return (*explained, *_pace(check), *shared)


def explanation(check: Check, steps: Steps) -> str:
    """Take the difference between predicted and measured apart."""
    kind = KINDS[steps.name]
    found = [one.overheads for one in check.findings.observed]
    transport_s = statistics.median(one.transport_s for one in found)
    expected = check.findings.expected
    paces = [one.pace for one in found if one.pace is not None]
    slow = "the pace of batches"
    if paces:
        slow += f" ({statistics.median(paces):.2f} times the profile's times, {expected.pace or 1.0:.2f} expected)"
    there, planned = format_durations(transport_s, expected.transport_s)
    way = f"the way to the server and back ({there}, {planned} expected)"
    measured, predicted = (format_count(value * kind.scale) for value in (steps.measured, steps.predicted))
    least = LEAST_PART * abs(steps.measured - steps.predicted)
    causes = zip(steps.parts, ("these arrivals", slow, way, "none of these"), strict=True)
    due = [f"{signed(part * kind.scale)} {kind.unit} to {cause}" for part, cause in causes if abs(part) > least]
    return (
        f"{capitalised(kind.label)} was {measured} instead of {predicted} {kind.unit}. Of the difference are due: "
        f"{listed(due)}."
    )


def signed(value: float) -> str:
    """Write a part of a difference with its sign and two digits; what is nothing but an error of rounding is nothing.

    >>> signed(5.774), signed(-0.02), signed(1234.5), signed(-1e-12)
    ('+5.8', '-0.02', '+1,234', '0')
    """
    if abs(value) < NOTHING:
        return "0"
    size = abs(value) if abs(value) >= TWO_DIGITS_BELOW else float(f"{abs(value):.2g}")
    return f"{'+' if value > 0 else '-'}{format_count(size)}"


def _pace(check: Check) -> Iterator[str]:
    """Say whether batches ran as fast as the profile says, already for a single client."""
    pace = check.findings.alone.pace
    if pace is not None and abs(log(pace)) > log(1 + most_off(check.profile)):
        used = (
            "as was asked for, the prediction leaves that out"
            if check.options.as_profiled
            else "that was predicted with"
        )
        yield (
            f"Already for a single client batches took {pace:.2f} times as long as the profile says, and {used}: "
            f"{_remedy_of_pace(check)}."
        )


def most_off(profile: Profile) -> float:
    """Return by what share a pace may differ from 1 for no reason but the profile's own error, nine times in ten.

    Source: the error's 90 % interval is that of a normal distribution, 1.645 standard deviations on either side.
    """
    model = profile.cost_model
    sd = hypot(model.residual_sd, model.measurement_sd, profile.drift) if model is not None else 0.0
    return max(NEAR_PACE, exp(1.645 * sd) - 1)


def _remedy_of_pace(check: Check) -> str:
    if check.measured_again:
        return "the machine does not run at one speed, or the model shares it with its server"
    again = f"`carpool verify {shlex.quote(str(check.file))} --profile-again 30s`"
    return (
        "the machine is not as it was then, and the plan is made for what it was; measure it again with "
        f"{again}, then plan anew with `carpool plan`"
    )


def _shared_cores(check: Check) -> str:
    """Say what used the processor while the load lasted."""
    windows = [one.window for one in check.findings.observed]
    server = statistics.fmean(window.server_cores for window in windows)
    generator = statistics.fmean(window.load.cpu_share for window in windows)
    others = statistics.fmean(window.other_load_cores for window in windows)
    return (
        f"Of the machine's {counted(check.profile.machine.num_cores, 'core')} the server used {server:.2f}, the load "
        f"generator {generator:.2f} and other programs {others:.2f}."
    )


def doubts(check: Check) -> tuple[str, ...]:
    """Say what makes this check less than it should be."""
    return (*_about_profile(check), *_about_load(check), *_about_machine(check))


def _about_profile(check: Check) -> Iterator[str]:
    if check.changed:
        yield "The profile is another than the plan was made from, so the plan may not be the best for it: plan again."
    if not check.profile.trust.trusted:
        yield f"The profile itself is in doubt: {'; '.join(check.profile.trust.reasons)}."
    if check.differences:
        differences = "; ".join(check.differences)
        yield f"The profile was measured elsewhere ({differences}): measure it here, with --profile-again 30s."


def _about_load(check: Check) -> Iterator[str]:
    if check.cut:
        yield check.cut
    if check.profile.has_lengths and not check.have_lengths:
        yield "The model takes no texts, so requests could not be given the lengths of the workload: all were made up."
    if not check.findings.prediction.stable:
        yield "More arrives than can be served: latencies grow for as long as it lasts, and hold for this window only."
    failures = [failure for one in check.findings.observed for failure in summarise(one.window.load).failures]
    if failures:
        num = sum(failure.count for failure in failures)
        yield f"{counted(num, 'request')} failed, the first of them so: {failures[0].kind}, {failures[0].example}"


def _about_machine(check: Check) -> Iterator[str]:
    windows = [one.window for one in check.findings.observed]
    others = max(window.other_load_cores for window in windows)
    if others > QUIET_CORES:
        yield f"Other programs used up to {others:.1f} cores meanwhile: do not trust this; try it on a quiet machine."
    limited = [summary for window in windows if (summary := summarise(window.load)).generator_limited]
    if limited:
        evidence = "; ".join(limited[0].evidence)
        yield f"The load generator shares the machine with the server, and may be what shows: {evidence}."
