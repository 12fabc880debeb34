"""One sequence in the engine: what the scheduler knows of it, how its tokens are chosen, and where they go."""

from __future__ import annotations

from dataclasses import dataclass, field

from carpool.core.sequence import Sequence
from carpool.llm.consumer import Consumer
from carpool.llm.sampled import Sampled
from carpool.llm.sampling import SamplerState
from carpool.llm.stream import Stream
from carpool.signals.llm_events import SequenceEnded


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """A sequence on its way.

    Args:
        sequence: the scheduler's; its handle is this.
        sampler: how its tokens are chosen.
        stream: its way out.
        consumer: where it goes out.
        is_plain: whether its next token is always the most likely one, and nothing else is told of it.
        wants_vector: whether a vector is wanted in the place of text.
        wants_logprobs: whether its tokens' log probabilities are told.
    """

    sequence: Sequence
    sampler: SamplerState
    stream: Stream
    consumer: Consumer
    is_plain: bool = False
    wants_vector: bool = False
    wants_logprobs: bool = False
    # As it goes.
    scheduled_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float = 0.0
    num_generated: int = 0
    has_ended: bool = False
    prompt_records: list[Sampled] = field(default_factory=list)  # of the tokens from the second on

    def ended(self, at: float, reason: str, num_generated: int | None = None) -> SequenceEnded:
        """Tell of its end.

        Args:
            at: when.
            reason: as `SequenceEnded.reason`.
            num_generated: its tokens, where not all that were generated count.
        """
        sequence = self.sequence
        return SequenceEnded(
            at=at,
            reason=reason,
            arrived_at=sequence.arrived_at,
            scheduled_at=self.scheduled_at,
            first_token_at=self.first_token_at,
            num_prompt=sequence.num_prompt,
            num_cached=sequence.num_cached,
            num_generated=self.num_generated if num_generated is None else num_generated,
            num_preemptions=sequence.num_preemptions,
            tenant=sequence.tenant,
            request_id=sequence.request_id,
        )
