"""The public language model: prompts in, text out, many at once."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, Self

from carpool.core.step_policy import StepPolicy
from carpool.errors import CarpoolError, ConfigError, InvalidItem, QueueFull
from carpool.llm.collect import Collector
from carpool.llm.consumer import QueueConsumer
from carpool.llm.open import open_engine
from carpool.llm.options import EngineOptions
from carpool.llm.prompt import as_many, token_ids
from carpool.llm.request import Generation
from carpool.llm.sampling_params import SamplingParams
from carpool.runtime.delivery import unwrap
from carpool.runtime.misuse import naming_options, unknown_options
from carpool.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from carpool.llm.engine import Engine, Handle
    from carpool.llm.outputs import Completion, Output

    Prompt = str | Sequence[int]

_PARAMS = tuple(field.name for field in fields(SamplingParams))


class LLM:
    """A causal language model that generates for many prompts at once.

    Args:
        target: `demo:smollm2`, a directory of a Hugging Face causal language model, or a `.gguf` file.
        device: where it computes, such as "cuda:0"; the best there is by default.
        dtype: "auto", "float32", "bfloat16", "float16" or "float64".
        weights: "as_is", or "int8" to halve their memory.
        num_threads: threads that compute on a CPU; all cores by default.
        max_length: the longest sequence to take, in tokens; the model's own limit by default.
        kv_memory: memory of the cache of keys and values, such as "2GiB"; by default most of what is free.
        deterministic: whether a prompt's logits are bitwise the same alone and in any batch.
        policy: how steps are formed; or give the next three alone.
        num_slots: most sequences at a time (64 by default).
        token_budget: most tokens of a step (512 by default).
        prefix_caching: whether prompts that begin alike share what is computed of them (they do by default).

    Raises:
        TargetError: the target is not there.
        ConfigError: an argument is outside its range.

    >>> import carpool
    >>> with carpool.LLM("demo:smollm2", kv_memory="64MiB") as llm:  # doctest: +SKIP
    ...     print(llm.generate("The capital of France is", temperature=0, max_tokens=5)[0].text)
     Paris, and the capital
    """

    @naming_options("an LLM")
    def __init__(
        self,
        target: str,
        *,
        device: str | None = None,
        dtype: str = "auto",
        weights: Literal["as_is", "int8"] = "as_is",
        num_threads: int | None = None,
        max_length: int | None = None,
        kv_memory: str | int | None = None,
        deterministic: bool = False,
        policy: StepPolicy | None = None,
        num_slots: int | None = None,
        token_budget: int | None = None,
        prefix_caching: bool | None = None,
    ) -> None:
        given = {"num_slots": num_slots, "token_budget": token_budget, "prefix_caching": prefix_caching}
        self.engine: Engine = open_engine(
            EngineOptions(
                target=target,
                device=device,
                dtype=dtype,
                weights=weights,
                num_threads=num_threads,
                max_length=max_length,
                kv_memory_bytes=parse_bytes(kv_memory) if isinstance(kv_memory, str) else kv_memory,
                deterministic=deterministic,
                policy=_policy(policy, {name: value for name, value in given.items() if value is not None}),
            )
        )

    # ---------------------------------------------------------------------------------------------- life

    def start(self) -> Self:
        """Load the model; the first call of any other method does it too.

        Raises:
            CarpoolError: it could not be loaded.
        """
        self.engine.start()
        return self

    def close(self, timeout_s: float | None = None) -> None:
        """Finish what was accepted, and let the model go.

        Args:
            timeout_s: how long to wait for what was accepted.
        """
        self.engine.close(timeout_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.close)

    # --------------------------------------------------------------------------------------------- text

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **sampling: Any,
    ) -> list[Completion]:
        """Go on from prompts, all of them at once; return what came of each, in order.

        Args:
            prompts: texts, or lists of token ids; or one of them.
            params: how tokens are chosen and when to stop; one for all, or one a prompt.
            sampling: in the place of `params`, what `SamplingParams` takes, such as `max_tokens=100`.

        Raises:
            CarpoolError: what the first prompt that failed was answered with; the others still ran.
        """
        return [unwrap(outcome) for outcome in self.generate_outcomes(prompts, params, **sampling)]

    def generate_outcomes(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **sampling: Any,
    ) -> list[Completion | CarpoolError]:
        """Go on from prompts as `generate`; a `CarpoolError` takes the place of what came of a prompt that failed."""
        self.start()
        pairs = _paired(as_many(prompts), params, sampling)
        return _Round(self.engine).run([self._generation_or_error(*pair) for pair in pairs])

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        params: SamplingParams | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        **sampling: Any,
    ) -> Completion:
        """Answer a conversation.

        Args:
            messages: each with `role` and `content`, as OpenAI's clients write them.
            params: how tokens are chosen and when to stop.
            tools: JSON schemas of functions that the model may call, for its chat template.
            sampling: in the place of `params`, what `SamplingParams` takes.

        Raises:
            InvalidItem: the model has no chat template, or it refuses the conversation.
            CarpoolError: the generation failed.
        """
        return self.generate([self.chat_prompt(messages, tools=tools)], params, **sampling)[0]

    def chat_prompt(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Return the tokens that the model answers a conversation from.

        Args:
            messages: as for `chat`.
            tools: as for `chat`.

        Raises:
            InvalidItem: as `chat`.
        """
        parts = self.start().engine.parts
        if parts.chat is None:
            raise InvalidItem(f"{parts.name} has no chat template: use generate, with a prompt written out")
        parts.chat.check_has_place(tools=tools)
        text = parts.chat.render(messages, tools=tools, add_generation_prompt=True)
        ids: list[int] = parts.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    async def stream(
        self, prompt: Prompt, params: SamplingParams | None = None, **sampling: Any
    ) -> AsyncIterator[Output]:
        """Go on from a prompt, and give what comes as it comes; leaving the loop gives the generation up.

        Args:
            prompt: a text, or a list of token ids; for a conversation, what `chat_prompt` returns.
            params: how tokens are chosen and when to stop.
            sampling: in the place of `params`, what `SamplingParams` takes.

        Raises:
            CarpoolError: it was refused, or failed.
        """
        await asyncio.to_thread(self.start)
        ((one, chosen),) = _paired([prompt], params, sampling)
        generation = self._generation(one, chosen)
        if chosen.constraint is not None:
            await asyncio.to_thread(self.engine.compile, chosen.constraint)
        outputs: asyncio.Queue[Output] = asyncio.Queue()
        handle = self.engine.submit(generation, outputs.put_nowait)
        num_left = chosen.n
        try:
            while num_left:
                output = await outputs.get()
                if output.error is not None:
                    raise output.error
                num_left -= output.finish_reason is not None
                yield output
        finally:
            handle.cancel()

    def _generation(self, prompt: Prompt, params: SamplingParams) -> Generation:
        return Generation(prompt=token_ids(prompt, self.engine.parts.tokenizer), params=params)

    def _generation_or_error(self, prompt: Prompt, params: SamplingParams) -> Generation | CarpoolError:
        try:
            return self._generation(prompt, params)
        except CarpoolError as error:
            return error


class _Round:
    """Generations that one thread waits for together: as many are submitted as the engine takes.

    Args:
        engine: generates.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._consumer = QueueConsumer()
        self._under_way: dict[int, Handle] = {}

    def run(self, generations: Sequence[Generation | CarpoolError]) -> list[Completion | CarpoolError]:
        """Run all, and return what came of each, in order; what is under way when it is interrupted is given up.

        Args:
            generations: or what is wrong with one.
        """
        outcomes: dict[int, Completion | CarpoolError] = {}
        left = deque(enumerate(generations))
        try:
            while len(outcomes) < len(generations):
                while left and self._submit(*left[0], outcomes):
                    left.popleft()
                if self._under_way:
                    self._consumer.run_next()
        except BaseException:
            for handle in self._under_way.values():
                handle.cancel()
            raise
        return [outcomes[place] for place in range(len(generations))]

    def _submit(
        self, place: int, generation: Generation | CarpoolError, outcomes: dict[int, Completion | CarpoolError]
    ) -> bool:
        """Submit one, if there is room; a refusal for another reason is its outcome."""
        if isinstance(generation, CarpoolError):
            outcomes[place] = generation
            return True

        def end(outcome: Completion | CarpoolError) -> None:
            outcomes[place] = outcome
            del self._under_way[place]

        try:
            taken = Collector(generation, end).take
            self._under_way[place] = self._engine.submit(generation, taken, consumer=self._consumer)
        except QueueFull as error:
            if self._under_way:
                return False
            outcomes[place] = error  # others fill the queue
        except CarpoolError as error:
            outcomes[place] = error
        return True


def _paired(
    prompts: Sequence[Any], params: SamplingParams | Sequence[SamplingParams] | None, sampling: Mapping[str, Any]
) -> list[tuple[Any, SamplingParams]]:
    """Give each prompt its parameters."""
    if unknown := [name for name in sampling if name not in _PARAMS]:
        raise unknown_options("SamplingParams", unknown, _PARAMS)
    if params is not None and sampling:
        raise ConfigError(f"give either params or {', '.join(sampling)}, not both")
    if params is None:
        params = SamplingParams(**sampling)
    if isinstance(params, SamplingParams):
        return [(prompt, params) for prompt in prompts]
    if not isinstance(params, list | tuple) or not all(isinstance(one, SamplingParams) for one in params):
        raise ConfigError(f"params is {params!r:.60}: give SamplingParams, or a list of them")
    if len(params) != len(prompts):
        raise ConfigError(f"there are {len(params)} params for {len(prompts)} prompts: give one for all, or one each")
    return list(zip(prompts, params, strict=True))


def _policy(policy: StepPolicy | None, given: dict[str, Any]) -> StepPolicy:
    if policy is not None and given:
        raise ConfigError(f"give either policy or {', '.join(given)}, not both")
    if policy is not None:
        return policy
    slots = given.get("num_slots")
    if isinstance(slots, int) and "token_budget" not in given:
        given["token_budget"] = max(slots, StepPolicy().token_budget)
    return StepPolicy(**given)
