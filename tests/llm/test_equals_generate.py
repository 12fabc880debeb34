"""Whatever happens around it, a generation is what transformers' `generate` makes of its prompt, token for token.

In float64, so that no rounding decides; under random arrival, chunk sizes, preemption in tiny caches, prefix hits,
cancellation and forks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carpool.core.clock import VirtualClock
from carpool.core.step_policy import StepPolicy
from carpool.llm.make_runner import make_runner
from carpool.llm.parts import Parts
from carpool.llm.request import Generation
from carpool.llm.sampling_params import SamplingParams
from carpool.llm.stepper import Stepper
from carpool.signals.llm_events import StepRan
from tests.llm.fake_runner import tokenizer
from tests.llm.stepping import Asked, AtOnce, Diary
from tests.llm.steps import loaded
from tests.llm.tiny import CONFIGS, VOCABULARY, tiny_model

if TYPE_CHECKING:
    from carpool.llm.runner import Runner, StepBatch

ARCHITECTURES = [*sorted(CONFIGS), "phi"]
MAX_LENGTH = 64
MOST_NEW = 12
LENGTHS = (1, 3, 4, 5, 8, 13, 21, 30)
BASES = [torch.randint(3, VOCABULARY, (30,), generator=torch.Generator().manual_seed(seed)).tolist() for seed in (1, 2)]
BASES.append(BASES[0][:13] + BASES[1][:17])


def _model(kind: str) -> Any:
    if kind != "phi":
        return tiny_model(kind).double()
    torch.manual_seed(0)
    causal: Any = transformers.AutoModelForCausalLM
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "initializer_range": 0.3,
    }
    config = transformers.PhiConfig(vocab_size=VOCABULARY, num_attention_heads=4, max_position_embeddings=128, **sizes)
    return causal.from_config(config).eval().double()


@cache
def _oracle(kind: str) -> Any:
    model = _model(kind)
    model.generation_config.eos_token_id = None
    return model


@cache
def _generated(kind: str, prompt: tuple[int, ...]) -> list[int]:
    """What `generate` makes of a prompt."""
    ids = torch.tensor([prompt])
    made = _oracle(kind).generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=MOST_NEW, pad_token_id=0
    )
    tokens: list[int] = made[0, len(prompt) :].tolist()
    return tokens


@cache
def _runner(kind: str, block_size: int) -> Runner:
    return make_runner(loaded(_model(kind), max_length=MAX_LENGTH), block_size=block_size, most_tokens=512)


class Small:
    """A runner of which only some blocks are used.

    Args:
        runner: the whole.
        num_blocks: how many.
    """

    weights_bytes = cache_bytes = 0

    def __init__(self, runner: Runner, num_blocks: int) -> None:
        self._runner = runner
        self.num_blocks, self.block_size = num_blocks, runner.block_size
        self.max_length, self.vocabulary_size = runner.max_length, runner.vocabulary_size

    def warm_up(self) -> None:
        """Nothing."""

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute."""
        assert batch.block_tables.max(initial=0) < self.num_blocks
        return self._runner.run(batch)


@dataclass(frozen=True)
class Visit:
    """A generation of a scenario.

    Args:
        prompt: its tokens.
        num_new: how many tokens it asks for.
        n: how many sequences.
        at_step: before which step it comes.
        cancel_at: before which step it is cancelled; None: never.
        priority: its.
    """

    prompt: tuple[int, ...]
    num_new: int
    n: int
    at_step: int
    cancel_at: int | None
    priority: int


prompts = st.builds(lambda base, length: tuple(BASES[base][:length]), st.integers(0, 2), st.sampled_from(LENGTHS))
visits = st.builds(
    Visit,
    prompt=prompts,
    num_new=st.integers(1, MOST_NEW) | st.just(MOST_NEW),
    n=st.sampled_from([1, 1, 1, 2, 3]),
    at_step=st.integers(0, 6),
    cancel_at=st.none() | st.none() | st.integers(1, 25),
    priority=st.integers(-1, 1),
)
policies = st.builds(
    StepPolicy,
    num_slots=st.integers(2, 6),
    token_budget=st.integers(6, 40),
    prefix_caching=st.booleans(),
)


def _visit_all(stepper: Stepper, clock: VirtualClock, scenario: list[Visit]) -> list[Asked]:
    """Live through a scenario; return what came of each visit."""
    asked = [Asked() for _ in scenario]
    last_at = max(max(visit.at_step, visit.cancel_at or 0) for visit in scenario)
    for step in range(10_000):
        for visit, one in zip(scenario, asked, strict=True):
            if visit.at_step == step:
                params = SamplingParams(temperature=0.0, max_tokens=visit.num_new, n=visit.n)
                generation = Generation(prompt=visit.prompt, params=params, priority=visit.priority)
                one.jobs = stepper.submit(generation, one.outputs.append, AtOnce())
            if visit.cancel_at == step:
                for job in one.jobs:
                    job.stream.is_closed = True
                stepper.end(one.jobs, "abort")
        ran = stepper.step()
        stepper.check_integrity()
        clock.advance_to(clock.now() + 0.01)
        if not ran and step > last_at:
            return asked
    pytest.fail("it never ends")


@pytest.mark.parametrize("kind", ARCHITECTURES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scenario=st.lists(visits, min_size=2, max_size=10),
    policy=policies,
    block_size=st.sampled_from([4, 16]),
    spare=st.sampled_from([0, 0, 1, 2, 5, 12]),
)
def test_greedy_tokens_are_those_of_generate(
    kind: str, scenario: list[Visit], policy: StepPolicy, block_size: int, spare: int
) -> None:
    """However generations come, share, lose and regain their blocks, or go away; and no block is lost."""
    longest = max(len(visit.prompt) + visit.num_new for visit in scenario)
    runner = Small(_runner(kind, block_size), -(-longest // block_size) + spare)
    clock, diary = VirtualClock(), Diary()
    parts = Parts(runner=runner, tokenizer=tokenizer(), name=kind)
    stepper = Stepper(parts, policy, clock, diary)
    for visit, asked in zip(scenario, _visit_all(stepper, clock, scenario), strict=True):
        wanted = _generated(kind, visit.prompt)[: visit.num_new]
        for index in range(visit.n):
            if visit.cancel_at is None or visit.cancel_at < visit.at_step:
                assert asked.token_ids(index) == wanted
                assert asked.reason(index) == "length"
            else:
                assert asked.token_ids(index) == wanted[: len(asked.token_ids(index))]
    assert (stepper.num_running, stepper.num_waiting, stepper.usage) == (0, 0, 0.0)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_tokens_of_preempted_generations_are_those_of_generate(kind: str) -> None:
    """Six that fit while they are short push each other out as they grow; some find their blocks again."""
    prefix_caching = ARCHITECTURES.index(kind) % 2 == 0
    scenario = [
        Visit(
            prompt=tuple(BASES[place % 3][: 8 + place]),
            num_new=MOST_NEW,
            n=1 + place % 2,
            at_step=place // 2,
            cancel_at=None,
            priority=0,
        )
        for place in range(6)
    ]
    clock, diary = VirtualClock(), Diary()
    policy = StepPolicy(num_slots=6, token_budget=24, prefix_caching=prefix_caching)
    stepper = Stepper(Parts(runner=Small(_runner(kind, 4), 11), tokenizer=tokenizer(), name=kind), policy, clock, diary)
    for visit, asked in zip(scenario, _visit_all(stepper, clock, scenario), strict=True):
        for index in range(visit.n):
            assert asked.token_ids(index) == _generated(kind, visit.prompt)
    assert sum(step.num_preempted for step in diary.of(StepRan)) >= 2


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_log_probabilities_are_those_of_the_model(kind: str) -> None:
    """Of the tokens and of the prompt's, within 1e-4, from a prompt in chunks beside others."""
    clock, diary = VirtualClock(), Diary()
    stepper = Stepper(
        Parts(runner=Small(_runner(kind, 4), 40), tokenizer=tokenizer(), name=kind),
        StepPolicy(num_slots=4, token_budget=7),
        clock,
        diary,
    )
    asked = [Asked() for _ in BASES]
    for base, one in zip(BASES, asked, strict=True):
        params = SamplingParams(temperature=0.0, max_tokens=5, logprobs=3, prompt_logprobs=2)
        one.jobs = stepper.submit(Generation(prompt=base, params=params), one.outputs.append, AtOnce())
    while stepper.step():
        pass
    for base, one in zip(BASES, asked, strict=True):
        whole = [*base, *one.token_ids()]
        with torch.inference_mode():
            wanted = torch.log_softmax(_oracle(kind)(torch.tensor([whole])).logits[0], dim=-1)
        records = [*one.outputs[0].prompt_logprobs[1:], *(r for output in one.outputs for r in output.logprobs)]
        assert len(records) == len(whole) - 1
        for place, record in enumerate(records):
            assert record is not None
            assert record.token == whole[place + 1]
            assert record.logprob == pytest.approx(float(wanted[place, record.token]), abs=1e-4)
            num_top = 2 if place < len(base) - 1 else 3
            top = wanted[place].topk(num_top)
            assert [token for token, _ in record.top] == top.indices.tolist()
            assert [value for _, value in record.top] == pytest.approx(top.values.tolist(), abs=1e-4)
