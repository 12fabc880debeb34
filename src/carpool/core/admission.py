"""Which sequences can be accepted at all, and what is said to those that can't."""

from dataclasses import dataclass

from carpool.core.sequence import Sequence
from carpool.core.step_policy import StepPolicy
from carpool.errors import InvalidItem, QueueFull
from carpool.units import counted

_SMOOTHING = 0.1  # weight of the newest observation


@dataclass(frozen=True, slots=True)
class Limits:
    """What a sequence must fit, alone in an engine.

    Args:
        policy: has the token budget that a prompt must fit where it runs whole.
        num_blocks: blocks in the cache.
        max_length: the longest that a sequence may get, in tokens.
    """

    policy: StepPolicy
    num_blocks: int
    max_length: int

    def check(self, sequence: Sequence) -> None:
        """Refuse a sequence that could never run to its end.

        Raises:
            InvalidItem: names the sequence's size, the limit and the remedy.
        """
        num_prompt, most_new = len(sequence.tokens), sequence.max_new_tokens
        if not num_prompt:
            raise InvalidItem("the prompt has no token: give at least one, such as the model's first one")
        if most_new < 0:
            raise InvalidItem(f"max_new_tokens is {most_new}; it must be at least 0")
        if num_prompt + most_new > self.max_length:
            raise InvalidItem(
                f"the prompt has {counted(num_prompt, 'token')} and max_new_tokens is {most_new}, together "
                f"{num_prompt + most_new}, but the model's length is {self.max_length}: shorten the prompt or lower "
                "max_new_tokens"
            )
        self._check_room(num_prompt, most_new)

    def _check_room(self, num_prompt: int, most_new: int) -> None:
        most_computed = max(num_prompt, num_prompt + most_new - 1)  # nothing is computed of the last token
        needed = -(-most_computed // self.policy.block_size)
        if needed > self.num_blocks:
            raise InvalidItem(
                f"the prompt has {counted(num_prompt, 'token')} and max_new_tokens is {most_new}, which need "
                f"{counted(needed, 'block')} of {self.policy.block_size} tokens, but the cache has {self.num_blocks}: "
                "shorten the prompt, lower max_new_tokens or give the cache more memory"
            )
        if not self.policy.chunked_prefill and most_computed > self.policy.token_budget:
            raise InvalidItem(
                f"the prompt has {counted(num_prompt, 'token')} and max_new_tokens is {most_new}: up to "
                f"{most_computed} tokens may have to run in one step without chunked prefill, but token_budget is "
                f"{self.policy.token_budget}: shorten the prompt, raise token_budget or switch chunked_prefill on"
            )


class Pace:
    """How fast waiting sequences are admitted while others wait behind them."""

    def __init__(self) -> None:
        self._interval_s = 0.0  # between two that are admitted; 0: not known yet
        self._admitted_at: float | None = None  # the last time, if others were left behind

    def admitted(self, num_sequences: int, now: float, *, left_behind: bool) -> None:
        """Take note that sequences were admitted, and whether others could not be."""
        if self._admitted_at is not None:
            interval_s = (now - self._admitted_at) / num_sequences
            weight = _SMOOTHING if self._interval_s else 1.0
            self._interval_s += weight * (interval_s - self._interval_s)
        self._admitted_at = now if left_behind else None

    def queue_full(self, num_waiting: int, max_waiting: int, now: float) -> QueueFull:
        """Return the refusal of a sequence for which there is no room; there is as soon as another is admitted."""
        since_s = now - self._admitted_at if self._admitted_at is not None else 0.0
        retry_after_s = max(self._interval_s, since_s)  # it has become slower where that took longer already
        again = f"in {retry_after_s:.3g} s" if retry_after_s > 0 else "later"
        return QueueFull(
            f"{counted(num_waiting, 'sequence')} wait, and max_waiting is {max_waiting}: try again {again}, or raise "
            "max_waiting",
            retry_after_s=retry_after_s or None,
        )
