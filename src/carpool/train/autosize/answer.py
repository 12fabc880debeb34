"""What a process, or this one, answers of the training steps that were tried, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from carpool.errors import ConfigError
from carpool.models.blame import describe
from carpool.train.autosize.ran_out import ran_out_of_memory
from carpool.train.autosize.result import Outcome, Probe
from carpool.units import format_sizes

if TYPE_CHECKING:
    from carpool.profile.memory_limit import MemoryLimit

Cause = Literal["", "memory", "time", "asked", "model"]
"""Why steps were not completed: memory or time ran out, what was asked for can't be, or the model failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of the steps, as a process answers it.

    Args:
        peak_bytes: the most memory held during the steps; None where they were not completed.
        setup_bytes: the most held before them.
        num_items: of one pass over the data.
        num_valid: valid items of the micro-batch.
        device: that the model computes on.
        passes_s: seconds of forward and backward passes, by size.
        updates_s: seconds of the optimiser's steps.
        cause: why they were not completed; empty where they were.
        error: the same in words.
    """

    peak_bytes: int | None = None
    setup_bytes: int = 0
    num_items: int = 0
    num_valid: int = 0
    device: str = ""
    passes_s: tuple[tuple[int, tuple[float, ...]], ...] = ()
    updates_s: tuple[float, ...] = ()
    cause: Cause = ""
    error: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Say why steps were not completed.

        Args:
            error: that they raised.
        """
        if ran_out_of_memory(error):
            return cls(cause="memory", error=describe(error))
        if isinstance(error, ConfigError):
            return cls(cause="asked", error=str(error))
        return cls(cause="model", error=describe(error))


_OUTCOMES: dict[Cause, Outcome] = {"memory": "does not fit", "time": "too slow", "model": "failed"}


def judge(answer: Answer, size: int, limit: MemoryLimit, *, seconds: float = 0.0) -> Probe:
    """Say whether a size fits.

    Args:
        answer: what came of its steps.
        size: items of the micro-batch.
        limit: the most memory that is allowed.
        seconds: what the probe took.

    Raises:
        ConfigError: what was asked for can't be, at any size.
    """
    if answer.cause == "asked":
        raise ConfigError(answer.error)
    if answer.peak_bytes is None:
        return Probe(size=size, outcome=_OUTCOMES[answer.cause], reason=answer.error, seconds=seconds)
    needed, when = max((answer.peak_bytes, "while it trains"), (answer.setup_bytes, "while the setup is made"))
    reason = ""
    if needed > limit.limit_bytes:
        held, allowed = format_sizes(needed, limit.limit_bytes)
        reason = f"{held} needed {when}, {allowed} allowed ({limit.source})"
    outcome: Outcome = "does not fit" if reason else "fits"
    return Probe(size=size, outcome=outcome, peak_bytes=answer.peak_bytes, reason=reason, seconds=seconds)
