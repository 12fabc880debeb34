"""One generation on its way through an LLM engine: its tokens, and how many of them have been computed."""

import enum
import math
from dataclasses import dataclass, field
from typing import Any


class SequenceState(enum.Enum):
    """Where a sequence is on its way."""

    WAITING = "waiting"  # for its first step, or to be computed again after a preemption
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False, kw_only=True)
class Sequence:
    """A prompt and what is generated after it.

    There is no prefill and no decode: `num_computed` chases `num_tokens`, and when it has caught up the model says the
    next token.

    Args:
        tokens: the prompt's token ids, at least one; what is generated is added at the end.
        max_new_tokens: the most tokens to generate.
        arrived_at: the instant of arrival.
        priority: higher goes sooner; below zero is background work.
        tenant: whose share of the capacity it uses.
        request_id: the request that it came with.
        first_token_by: the instant by which its first token is wanted; an objective, not a deadline.
        token_interval_s: seconds that may pass between its tokens; an objective.
        wants_prompt_logits: the model's answers to the prompt's own tokens are wanted too, so that all of it runs.
        cache_salt: only sequences of one salt find each other's blocks in the prefix cache.
        handle: whatever the shell needs to answer it; opaque here.
    """

    tokens: list[int]
    max_new_tokens: int
    arrived_at: float = 0.0
    priority: int = 0
    tenant: str = ""
    request_id: str = ""
    first_token_by: float = math.inf
    token_interval_s: float = math.inf
    wants_prompt_logits: bool = False
    cache_salt: str = ""
    handle: Any = None
    # Set by the scheduler.
    num_prompt: int = field(init=False)
    state: SequenceState = SequenceState.WAITING
    num_computed: int = 0  # tokens whose keys and values are in its blocks
    blocks: list[int] = field(default_factory=list)
    num_cached: int = 0  # tokens of the prompt that were found in the prefix cache
    num_preemptions: int = 0
    # What the scheduler remembers of it; nobody else's.
    order: int = 0  # the how-many-th it was to be accepted; 0 before
    due_at: float = 0.0  # those due sooner go first
    is_late: bool = False  # its first token can't come in time any more
    most_tokens: int = 0  # its prompt and all that it may generate
    pause_at: int = 0  # with so many tokens computed it needs more care than another token
    num_published: int = 0  # of its blocks, that others can find
    num_passed: int = 0  # tokens of others that went past it while it waited
    digests: list[bytes] = field(default_factory=list, repr=False)  # of its first full blocks
    parent: "Sequence | None" = field(default=None, repr=False)  # who is to compute first what it then shares
    is_fork: bool = False  # it had a parent

    def __post_init__(self) -> None:
        self.num_prompt = len(self.tokens)

    @property
    def num_tokens(self) -> int:
        """Tokens that it has: the prompt's and those generated."""
        return len(self.tokens)

    @property
    def num_generated(self) -> int:
        """Tokens generated."""
        return len(self.tokens) - self.num_prompt
