"""What one step of an LLM computes: which tokens of which sequences."""

from dataclasses import dataclass
from typing import NamedTuple

from carpool.core.sequence import Sequence


class Chunk(NamedTuple):
    """Tokens of a sequence that lie side by side and are computed in one step.

    Args:
        sequence: whose they are.
        start: the position of the first.
        num_tokens: how many.
        samples: whether the last of them is the sequence's last, so that the model's answer to it is the next token.
    """

    # A named tuple is made in a fifth of the time of a frozen dataclass, and one is made for every token.

    sequence: Sequence
    start: int
    num_tokens: int
    samples: bool

    @property
    def end(self) -> int:
        """The position after the last: the sequence's tokens in the cache once the step is done."""
        return self.start + self.num_tokens


@dataclass(frozen=True, slots=True)
class StepWork:
    """What a step costs by.

    Args:
        num_tokens: tokens computed.
        num_sequences: sequences that they belong to.
        num_sampled: tokens whose logits are wanted.
        kv_read: tokens in the cache that single tokens look at: the sum of the contexts of chunks of one token.
        prefill_pairs: pairs of tokens within and before longer chunks: the sum of chunk x (start + chunk / 2).
    """

    num_tokens: int
    num_sequences: int
    num_sampled: int
    kv_read: int
    prefill_pairs: float


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step.

    Args:
        chunks: single tokens that sample first, then longer pieces.
        preempted: sequences that gave their blocks back for this step, and will be computed anew.
        work: what it costs by.
        preempted_because: why those, in words; empty where nobody was preempted.
    """

    chunks: tuple[Chunk, ...]
    preempted: tuple[Sequence, ...]
    work: StepWork
    preempted_because: str = ""
