"""Continuous batching: decides, step by step, which tokens of which sequences an LLM computes.

Every shell drives this object: the live engine with a real clock and a model, a simulation with neither.
"""

import collections.abc

from carpool.core.cost import StepTimeModel
from carpool.core.sequence import Sequence
from carpool.core.step import StepPlan
from carpool.core.step_policy import StepPolicy


class Continuous:
    """The decisions of one LLM engine; it holds no clock and computes nothing.

    `plan` says what the next step computes, `commit` takes what came of it. In between, and at any other time,
    sequences may be added, forked and finished. A step that is lost is planned again by the next `plan`.

    Args:
        policy: the limits.
        num_blocks: blocks in the cache, of `policy.block_size` tokens each.
        max_length: the longest that a sequence may get, in tokens, generated ones included.
        time_model: predicts how long a step runs, for objectives between tokens; one that learns is told by `commit`
            how long each took. None: nothing is predicted.
    """

    def __init__(
        self, policy: StepPolicy, *, num_blocks: int, max_length: int, time_model: StepTimeModel | None = None
    ) -> None:
        raise NotImplementedError

    @property
    def num_running(self) -> int:
        """Sequences that have a slot."""
        raise NotImplementedError

    @property
    def num_waiting(self) -> int:
        """Sequences that have none: new ones, forks, and those that were preempted."""
        raise NotImplementedError

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no sequence holds, those included that are kept for prefixes to come."""
        raise NotImplementedError

    @property
    def usage(self) -> float:
        """The share of the blocks that sequences hold."""
        raise NotImplementedError

    @property
    def has_work(self) -> bool:
        """Whether any sequence waits or runs."""
        raise NotImplementedError

    @property
    def prefix_queries(self) -> int:
        """Tokens of prompts that were looked up in the prefix cache so far."""
        raise NotImplementedError

    @property
    def prefix_hits(self) -> int:
        """Tokens of prompts that were found there."""
        raise NotImplementedError

    @property
    def num_preemptions(self) -> int:
        """Preemptions so far."""
        raise NotImplementedError

    def add(self, sequence: Sequence, now: float) -> None:
        """Accept a sequence, or refuse it.

        Raises:
            InvalidItem: it can never fit the model, the blocks, or, where prompts run whole, the token budget.
            QueueFull: as many sequences wait as may.
        """
        raise NotImplementedError

    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Accept a sequence that begins with the same tokens as another, and shares the blocks that they fill.

        The child waits until its parent has computed them; a last block that is not full it computes itself, so that
        no block is ever copied. A parent that ends before is no harm.

        Args:
            parent: one that was added.
            child: has the tokens that the parent has now.

        Raises:
            InvalidItem, QueueFull: as for `add`.
        """
        raise NotImplementedError

    def plan(self, now: float) -> StepPlan | None:
        """Say what the next step computes; None: nothing to do before somebody adds a sequence."""
        raise NotImplementedError

    def commit(
        self, plan: StepPlan, tokens: collections.abc.Sequence[collections.abc.Sequence[int]], now: float
    ) -> None:
        """Take in what a step computed.

        A sequence that has all its tokens, or gets none where one was due, is finished. Those that were finished
        since the plan are passed over.

        Args:
            plan: the latest plan.
            tokens: for each of its chunks the tokens that follow, none where it does not sample; further ones than
                the first count as not computed yet.
            now: the instant.
        """
        raise NotImplementedError

    def finish(self, sequence: Sequence) -> None:
        """End a sequence, in whatever state; its blocks are given back, and kept for prefixes to come."""
        raise NotImplementedError

    def check_integrity(self) -> None:
        """Assert the invariants."""
        raise NotImplementedError
