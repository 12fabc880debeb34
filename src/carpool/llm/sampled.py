"""A token that was chosen, or that a prompt has, and how likely the model held it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token and what the model said of it.

    Log probabilities are natural logarithms of the model's own distribution: of its logits as they come, before
    temperature, filters, penalties, bias and constraint, as OpenAI's are.

    Args:
        token: its id.
        logprob: its log probability; None where none was asked for.
        top: the most likely tokens with theirs, most likely first, level ones by id; as many as were asked for, whether
            or not the token is among them.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
