"""From what is asked for to the sequences that compute it: checked, with samplers and ways out."""

from __future__ import annotations

import secrets
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING

from carpool.core.sequence import Sequence
from carpool.errors import InvalidItem
from carpool.llm.job import Job
from carpool.llm.sampling import SamplerState
from carpool.llm.stream import Stream
from carpool.llm.token_texts import TokenTexts

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.llm.constrain import ConstraintCompiler
    from carpool.llm.consumer import Consumer
    from carpool.llm.outputs import Output
    from carpool.llm.parts import Parts
    from carpool.llm.request import Generation


class Intake:
    """Makes jobs.

    Args:
        parts: what the engine works with.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._texts = TokenTexts(parts.tokenizer)
        runner = parts.runner
        self._most_tokens = min(runner.max_length, runner.num_blocks * runner.block_size)

    @cached_property
    def constraints(self) -> ConstraintCompiler:
        """Makes what holds a text to a form."""
        from carpool.llm.constrain import ConstraintCompiler

        parts = self._parts
        return ConstraintCompiler(parts.tokenizer, parts.eos_ids, parts.runner.vocabulary_size)

    def jobs(
        self, generation: Generation, on_output: Callable[[Output], None], consumer: Consumer, now: float
    ) -> list[Job]:
        """Make a job for each sequence of a generation.

        Args:
            generation: what is asked for.
            on_output: is called with each output.
            consumer: where it is called.
            now: the instant of arrival.

        Raises:
            InvalidItem: the prompt is empty or holds what is no token of the model's, or a constraint can't be read.
        """
        self._check(generation)
        params = generation.params
        matcher = None if params.constraint is None else self.constraints.matcher(params.constraint)
        seed = secrets.randbits(64)  # shared by all sequences, each of which draws other numbers
        is_vector = generation.wants == "vector"
        jobs: list[Job] = []
        for index in range(1 if is_vector else params.n):
            sequence = self._sequence(generation, index, now)
            sampler = SamplerState(
                params,
                generation.prompt,
                eos_ids=self._parts.eos_ids,
                matcher=matcher.copy() if matcher is not None and index else matcher,
                index=index,
                seed=seed,
            )
            sequence.handle = Job(
                sequence=sequence,
                sampler=sampler,
                stream=Stream(
                    generation,
                    index,
                    on_output,
                    detokenizer=self._texts.detokenizer(generation.prompt),
                    eos_ids=self._parts.eos_ids,
                ),
                consumer=consumer,
                is_plain=sampler.only_argmax and not params.min_tokens and not sequence.wants_prompt_logits,
                wants_vector=is_vector,
                wants_logprobs=params.logprobs is not None,
            )
            jobs.append(sequence.handle)
        return jobs

    def _sequence(self, generation: Generation, index: int, now: float) -> Sequence:
        params = generation.params
        most = params.max_tokens
        if most is None:
            most = max(1, self._most_tokens - len(generation.prompt))
        return Sequence(
            tokens=list(generation.prompt),
            max_new_tokens=1 if generation.wants == "vector" else most,
            arrived_at=now,
            priority=generation.priority,
            tenant=generation.tenant,
            request_id=generation.request_id,
            first_token_by=inf if generation.ttft_s is None else now + generation.ttft_s,
            token_interval_s=inf if generation.tpot_s is None else generation.tpot_s,
            wants_prompt_logits=params.prompt_logprobs is not None and index == 0,
            cache_salt=generation.cache_salt,
        )

    def _check(self, generation: Generation) -> None:
        prompt, size = generation.prompt, self._parts.runner.vocabulary_size
        if not len(prompt):
            raise InvalidItem("the prompt is empty: it must have at least one token")
        if not all(type(token) is int for token in prompt):
            raise InvalidItem("the prompt must be whole numbers, the ids of this model's tokens")
        if min(prompt) < 0 or max(prompt) >= size:
            wrong = next(token for token in prompt if not 0 <= token < size)
            raise InvalidItem(
                f"the prompt has the token {wrong}, and the model has those from 0 to {size - 1}: use the ids of this "
                "model's tokenizer"
            )
        generation.params.check_vocabulary(size)
