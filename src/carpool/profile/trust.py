"""Whether a profile is to be trusted: signs that the machine was disturbed, and parts of it that contradict others.

Signs that the times are wrong:
    load    other programs used more than a quarter of the cores while it was timed
    drift   the later half of the samples was slower or faster than the earlier by more than a quarter
    spread  half of the times are known no better than to a quarter
    peaks   the model's own batches beat the best matrix product (on a processor), or moved data that no cache holds
            faster than the best copy: then those were held up, or the work is counted wrongly
    parts   a call that was taken apart took more than twice as long as the table says, or less than half
Signs that the fit is wrong, however sure the times are:
    fit     half of its predictions of shapes that it had not seen were off by more than a fifth
    mix     its prediction of items as they come was off by more than a half

On a quiet machine all of these are far from their limits. Everything here follows from figures that the profile holds.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Protocol

from carpool.profile.artefact import Trust
from carpool.profile.peaks import COPY_BYTES
from carpool.profile.wording import at_shape
from carpool.units import format_durations

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.profile.artefact import Profile
    from carpool.profile.breakdown import CallParts
    from carpool.profile.machine import Machine
    from carpool.profile.options import ProfileOptions

MOST_LOAD, MOST_DRIFT, MOST_SPREAD, MOST_RATIO = 0.25, 0.25, 0.25, 2.0
# A matrix product of another size than those tried may be a little faster.
MOST_OF_PEAK = 1.05
MOST_FIT_ERROR_PCT, MOST_MIX_ERROR_PCT = 20.0, 50.0


class Timed(Protocol):
    """A median time with its interval."""

    @property
    def time_s(self) -> float:
        """Median seconds."""

    @property
    def low_s(self) -> float:
        """Lower end of its interval."""

    @property
    def high_s(self) -> float:
        """Upper end."""


class Measured(Protocol):
    """What every profile says of how it was taken, whatever of."""

    @property
    def machine(self) -> Machine:
        """Where."""

    @property
    def points(self) -> Sequence[Timed]:
        """What was timed."""

    @property
    def drift(self) -> float:
        """How much slower the machine became."""

    @property
    def other_load_cores(self) -> float:
        """What other programs used."""


def judge(profile: Profile, options: ProfileOptions) -> Trust:
    """Look for what speaks against a profile, and say what to do about it.

    Args:
        profile: Whole but for its own trust and sentences, which are not looked at.
        options: What was asked for, which the command to measure again repeats.
    """
    return trust_in(
        tuple(_doubts_of_times(profile)),
        tuple(_doubts_of_fit(profile)),
        options,
        {point.batch_size for point in profile.points},
        how=partial(command, profile.target),
    )


def trust_in(
    of_times: tuple[str, ...],
    of_fit: tuple[str, ...],
    options: ProfileOptions,
    batch_sizes: set[int],
    *,
    how: Callable[[ProfileOptions], str],
) -> Trust:
    """Say whether to rely on a profile, and what to do about it where not.

    Args:
        of_times: Doubts of what was measured.
        of_fit: Doubts of what the fit predicts.
        options: What was asked for.
        batch_sizes: Those that were measured.
        how: Returns how to measure with some options.
    """
    if not of_times and not of_fit:
        return Trust()
    longer = replace(options, budget_s=2.0 * options.budget_s)
    if of_times:
        remedy = f"close other programs and run again, for longer: {how(longer)}"
    else:
        finer = replace(longer, batch_sizes=_sizes_between(batch_sizes))
        remedy = f"measure more batch sizes, for longer: {how(finer)}"
    return Trust(trusted=False, times_sure=not of_times, reasons=of_times + of_fit, remedy=remedy)


def headline(trust: Trust) -> str:
    """Return the warning that a profile which is not to be trusted begins with."""
    return (
        "do not trust what the fit predicts, though the times that were measured are sure"
        if trust.times_sure
        else "do not trust this profile"
    )


def _doubts_of_times(profile: Profile) -> Iterator[str]:
    """Say why the measured times may be wrong, each reason with its figures."""
    yield from doubts_of_machine(profile)
    yield from _beaten_peaks(profile)
    yield from _parts(profile)


def doubts_of_machine(profile: Measured) -> Iterator[str]:
    """Say what disturbed the measuring, whatever was measured."""
    num_cores = profile.machine.num_cores
    if profile.other_load_cores > MOST_LOAD * num_cores:
        yield f"other programs used {profile.other_load_cores:.1f} of {num_cores} cores while it was timed"
    if abs(profile.drift) > MOST_DRIFT:
        word = "slower" if profile.drift > 0 else "faster"
        yield f"the machine became {abs(profile.drift):.0%} {word} while it was timed"
    spreads = [(point.high_s - point.low_s) / (2.0 * point.time_s) for point in profile.points]
    if spreads and median(spreads) > MOST_SPREAD:
        yield f"repeats differed so much that half of the times are known to no better than {median(spreads):.0%}"


def _beaten_peaks(profile: Profile) -> Iterator[str]:
    """Say which peaks the model passed; on an accelerator, convolutions may use faster arithmetic than the product."""
    peaks = profile.peaks
    if peaks is None:
        return
    if profile.machine.device == "cpu" and peaks.model_over_product > MOST_OF_PEAK:
        yield f"the model reached {peaks.model_over_product:.0%} of the FLOP/s of the machine's best matrix product"
    moved = [
        point.mbu for point in profile.points if point.mbu and point.mbu * peaks.bytes_per_s * point.time_s > COPY_BYTES
    ]
    if moved and max(moved) > MOST_OF_PEAK:
        yield f"the model moved {max(moved):.0%} of the bytes/s of the machine's best copy"


def _parts(profile: Profile) -> Iterator[str]:
    """Hold calls that were taken apart against the median of the same call in the table."""
    times_s = {(point.batch_size, point.length): point.time_s for point in profile.points}
    both = [
        (parts, times_s[parts.batch_size, parts.length])
        for parts in profile.breakdown
        if (parts.batch_size, parts.length) in times_s
    ]
    worst = max(both, key=_ratio, default=None)
    if worst is None or _ratio(worst) <= MOST_RATIO:
        return
    alone, in_table = format_durations(worst[0].call_s, worst[1])
    size = worst[0].batch_size
    yield f"batches of {size} took {in_table} when they were timed and {alone} when they were taken apart"


def _ratio(both: tuple[CallParts, float]) -> float:
    parts, time_s = both
    return max(parts.call_s / time_s, time_s / max(parts.call_s, 1e-9))


def _doubts_of_fit(profile: Profile) -> Iterator[str]:
    """Say why what the fit predicts may be wrong."""
    model = profile.cost_model
    if model is not None and model.error_pct > MOST_FIT_ERROR_PCT:
        yield (
            f"the fit misses shapes that it has not seen by {model.error_pct:.0f} % at the median and by "
            f"{model.worst_error_pct:.0f} % at {at_shape(profile, *model.worst_error_at)}"
        )
    errors = [point.predicted_error_pct for point in profile.mix if point.predicted_error_pct is not None]
    if errors and max(errors) > MOST_MIX_ERROR_PCT:
        yield f"what the fit predicts of items as they come is off by {max(errors):.0f} %"


def command(target: str, options: ProfileOptions) -> str:
    """Return how to measure with these options."""
    if not any(mark in target for mark in ":/\\."):  # a live object, which has no name on the command line
        asked = {name: f"{value:g}" if name == "budget_s" else repr(value) for name, value in options.given().items()}
        return f"`ProfileOptions({', '.join(f'{name}={value}' for name, value in asked.items() if name != 'out')})`"
    return command_line(target, options)


def command_line(target: str, options: ProfileOptions) -> str:
    """Return the command that measures a TARGET with these options."""
    return f"`carpool profile {shlex.quote(target)}{options.as_flags()}`"


def _sizes_between(batch_sizes: set[int]) -> tuple[int, ...]:
    """Return batch sizes and those halfway between them; 1 where there are none."""
    measured = sorted(batch_sizes) or [1]
    return tuple(sorted({*measured, *((low + high) // 2 for low, high in pairwise(measured))}))
