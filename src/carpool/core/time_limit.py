"""How many tokens of prompts a step may hold, so that those who wait for their next token get it in time."""

from collections.abc import Iterable

from carpool.core.cost import StepTimeModel
from carpool.core.step import Chunk, StepWork

LEAST_SHARE = 8
"""A prompt gets this part of the token budget, whatever the objectives are: else it might wait for ever."""


_NOTHING = StepWork(num_tokens=0, num_sequences=0, num_sampled=0, kv_read=0, prefill_pairs=0.0)


def work_of(chunks: Iterable[Chunk], beside: StepWork = _NOTHING) -> StepWork:
    """Return what chunks cost by, with that of others beside them in the step."""
    num_tokens, num_sequences, num_sampled = beside.num_tokens, beside.num_sequences, beside.num_sampled
    kv_read, pairs = beside.kv_read, beside.prefill_pairs
    for _, start, count, samples in chunks:
        num_sequences += 1
        num_tokens += count
        num_sampled += samples
        if count == 1:
            kv_read += start + 1
        else:
            pairs += count * (start + count / 2)
    return StepWork(num_tokens, num_sequences, num_sampled, kv_read, pairs)


def most_tokens_in_time(
    model: StepTimeModel, limit_s: float, singles: StepWork, *, start: int, least_tokens: int, most_tokens: int
) -> int:
    """Return how many tokens of a prompt fit in a step of so many seconds.

    Args:
        model: predicts the time, which rises with the tokens.
        limit_s: seconds that the step may take.
        singles: the rest of the step.
        start: the position at which the prompt goes on.
        least_tokens: the answer where even they take too long.
        most_tokens: the answer where time is no limit.
    """
    low, high = min(least_tokens, most_tokens), most_tokens
    while low < high:
        middle = (low + high + 1) // 2
        work = StepWork(
            num_tokens=singles.num_tokens + middle,
            num_sequences=singles.num_sequences + 1,
            num_sampled=singles.num_sampled + 1,
            kv_read=singles.kv_read,
            prefill_pairs=middle * (start + middle / 2),
        )
        if model.time_s(work) <= limit_s:
            low = middle
        else:
            high = middle - 1
    return low
