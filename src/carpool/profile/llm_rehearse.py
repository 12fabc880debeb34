"""A small load that the scheduler and the model run together: what the fit says of it, and what steps cost besides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from carpool.core.continuous import Continuous
from carpool.core.sequence import Sequence
from carpool.core.step_policy import StepPolicy
from carpool.cost.step_cost import StepCost
from carpool.llm.runner import Runner, StepBatch
from carpool.llm.step_batch import step_batch
from carpool.profile.llm_artefact import Rehearsal

# Lengths are drawn from lognormal distributions of these means, whose logarithms spread as those of people's chats do.
_PROMPT, _OUTPUT, _SPREAD = 96, 24, 0.7
# A share of the longest sequence that a prompt, and what is generated, may have at most.
_MOST = 0.25


@dataclass(slots=True)
class Rehearser:
    """Runs a small load of prompts at random, all there from the beginning.

    Args:
        runner: Computes the steps; call `run` on its thread.
        time_s: Runs one step in the model, and returns its seconds.
        cost: The fit.
        policy: How steps are formed.
        rng: Draws lengths and tokens.
        clock: Seconds from any origin.
    """

    runner: Runner
    time_s: Callable[[StepBatch], float]
    cost: StepCost
    policy: StepPolicy
    rng: np.random.Generator
    clock: Callable[[], float]

    def run(self, num_requests: int, *, until: float) -> Rehearsal | None:
        """Generate for so many, and return what it took; nothing where the time is up before a step was run.

        Args:
            num_requests: Prompts.
            until: When to stop, on that clock.
        """
        engine = Continuous(self.policy, num_blocks=self.runner.num_blocks, max_length=self.runner.max_length)
        sequences = [self._sequence() for _ in range(num_requests)]
        for sequence in sequences:
            engine.add(sequence, 0.0)
        num_steps, in_model_s, predicted_s, begun_at = 0, 0.0, 0.0, self.clock()
        while self.clock() < until and (plan := engine.plan(float(num_steps))) is not None:
            in_model_s += self.time_s(step_batch(plan, want="tokens"))
            engine.commit(plan, [(0,) if chunk.samples else () for chunk in plan.chunks], float(num_steps))
            predicted_s += self.cost.line_s(plan.work)
            num_steps += 1
        if not num_steps:
            return None
        return Rehearsal(
            num_requests=num_requests,
            prompt_tokens=sum(min(one.num_computed, one.num_prompt) for one in sequences),
            output_tokens=sum(one.num_generated for one in sequences),
            num_slots=self.policy.num_slots,
            token_budget=self.policy.token_budget,
            num_steps=num_steps,
            wall_s=self.clock() - begun_at,
            in_model_s=in_model_s,
            predicted_s=predicted_s,
        )

    def _sequence(self) -> Sequence:
        tokens = self.rng.integers(0, self.runner.vocabulary_size, self._length(_PROMPT))
        return Sequence(tokens=tokens.tolist(), max_new_tokens=self._length(_OUTPUT))

    def _length(self, mean: float) -> int:
        drawn = mean * self.rng.lognormal(-(_SPREAD**2) / 2, _SPREAD)
        return int(np.clip(round(drawn), 1, max(1, int(_MOST * self.runner.max_length))))
