"""What a step computed, taken in: tokens for the scheduler, news for those who wait, and how long they waited."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carpool.core.step import Chunk
from carpool.errors import CarpoolError
from carpool.llm.execute import Result
from carpool.llm.job import Job
from carpool.llm.outputs import FinishReason
from carpool.llm.stream import News

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import carpool.core.sequence
    from carpool.llm.sampled import Sampled


@dataclass(slots=True)
class Taken:
    """What came of a step.

    Args:
        chunks: those that were computed, of sequences that go on.
        tokens: for each of them what follows it; nothing where it does not sample, or the sequence is at its end.
        news: for those who wait; a token alone where there is nothing else to tell.
        ended: jobs that are at their end.
        ttft_s: arrival to first token, of those that got their first.
        itl_s: gaps between tokens, of those that got another.
        num_prompt: tokens of the prompts of those that got their first.
    """

    chunks: list[Chunk] = field(default_factory=list)
    tokens: list[tuple[int, ...]] = field(default_factory=list)
    news: list[tuple[Job, News | int]] = field(default_factory=list)
    ended: list[tuple[Job, FinishReason]] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    itl_s: list[float] = field(default_factory=list)
    num_prompt: int = 0


def take_in(
    chunks: Sequence[Chunk], answered: Mapping[carpool.core.sequence.Sequence, Result | int], now: float
) -> Taken:
    """Go through a step's chunks once it has run, while nobody ends a sequence.

    Args:
        chunks: the plan's.
        answered: what was computed; chunks whose sequences are missing are passed over, as are those that ended.
        now: the instant.
    """
    taken = Taken()
    kept, tokens, news, itl_s = taken.chunks, taken.tokens, taken.news, taken.itl_s
    for chunk in chunks:
        sequence = chunk[0]
        result = answered.get(sequence)
        job: Job = sequence.handle
        if result is None or job.has_ended:
            continue
        kept.append(chunk)
        if type(result) is int and job.first_token_at is not None:
            count = job.num_generated + 1
            if count < sequence.max_new_tokens and result not in job.sampler.stopping_ids:  # mostly it is so
                job.num_generated = count
                itl_s.append(now - job.last_token_at)
                job.last_token_at = now
                tokens.append((result,))
                news.append((job, result))
                continue
        _take_result(taken, chunk, result, now)
    return taken


def _take_result(taken: Taken, chunk: Chunk, result: Result | int, now: float) -> None:
    job: Job = chunk.sequence.handle
    if type(result) is int:
        _take_token(taken, job, result, None, now)
        return
    assert isinstance(result, Result)
    job.prompt_records.extend(result.prompt)
    if not chunk.samples:
        taken.tokens.append(())
        return
    job.stream.num_cached = job.sequence.num_cached
    outcome = result.outcome
    if outcome is None:
        _end(taken, job, News(finish_reason="stop", vector=result.vector))
    elif isinstance(outcome, CarpoolError):
        _end(taken, job, News(finish_reason="error", error=outcome))
    else:
        _take_token(taken, job, outcome.token, outcome if job.wants_logprobs else None, now)


def _take_token(taken: Taken, job: Job, token: int, record: Sampled | None, now: float) -> None:
    _note_time(taken, job, now)
    job.num_generated += 1
    if token in job.sampler.stopping_ids:
        _end(taken, job, News(token, record, "stop", token))
    elif job.sampler.is_complete:
        _end(taken, job, News(token, record, "stop"))
    elif job.num_generated >= job.sequence.max_new_tokens:
        _end(taken, job, News(token, record, "length"))
    else:
        taken.tokens.append((token,))
        taken.news.append((job, News(token, record)))


def _end(taken: Taken, job: Job, news: News) -> None:
    """Take in the last of a sequence: a step that brings it nothing ends it for the scheduler too."""
    assert news.finish_reason is not None, "it has ended"
    taken.tokens.append(())
    taken.news.append((job, news))
    taken.ended.append((job, news.finish_reason))


def _note_time(taken: Taken, job: Job, now: float) -> None:
    if job.first_token_at is not None:
        taken.itl_s.append(now - job.last_token_at)
        job.last_token_at = now
        return
    sequence, stream = job.sequence, job.stream
    job.first_token_at = job.last_token_at = now
    taken.ttft_s.append(now - sequence.arrived_at)
    taken.num_prompt += sequence.num_prompt
    stream.num_cached = sequence.num_cached
    if sequence.wants_prompt_logits:
        stream.prompt_logprobs = (None, *job.prompt_records)
