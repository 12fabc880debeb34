"""Whether the profile of a model that generates is to be trusted, by the signs that any profile is held against.

Besides: the fit misses steps that it had not seen by more than a fifth at the median, or a whole load that the
scheduler and the model ran together by more than a quarter.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from carpool.profile.trust import MOST_FIT_ERROR_PCT, command_line, doubts_of_machine, trust_in
from carpool.profile.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carpool.profile.artefact import Trust
    from carpool.profile.llm_artefact import LlmProfile
    from carpool.profile.options import ProfileOptions

MOST_REHEARSAL_ERROR_PCT = 25.0


def judge(profile: LlmProfile, options: ProfileOptions) -> Trust:
    """Look for what speaks against a profile, and say what to do about it.

    Args:
        profile: Whole but for its own trust and sentences, which are not looked at.
        options: What was asked for, which the command to measure again repeats.
    """
    return trust_in(
        tuple(doubts_of_machine(profile)),
        tuple(_doubts_of_fit(profile)),
        options,
        {point.batch_size for point in profile.decodes},
        how=partial(command_line, profile.target),
    )


def _doubts_of_fit(profile: LlmProfile) -> Iterator[str]:
    """Say why what the fit predicts may be wrong."""
    cost, rehearsal = profile.step_cost, profile.rehearsal
    if cost is None:
        yield f"too few steps were measured to fit their cost to: {listed([str(p.shape) for p in profile.points])}"
        return
    if cost.error_pct > MOST_FIT_ERROR_PCT:
        worst = cost.worst_error_at
        yield (
            f"the fit misses steps that it has not seen by {cost.error_pct:.0f} % at the median and by "
            f"{cost.worst_error_pct:.0f} % at {worst.num_tokens} tokens of {worst.num_sequences} sequences"
        )
    if rehearsal is not None and abs(rehearsal.error_pct) > MOST_REHEARSAL_ERROR_PCT:
        word = "more" if rehearsal.error_pct > 0 else "less"
        yield (
            f"the fit predicts {abs(rehearsal.error_pct):.0f} % {word} time than the model took for "
            f"{rehearsal.num_requests} requests that the scheduler and it ran together"
        )
