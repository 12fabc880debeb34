"""The public language model: prompts in, text out; from a small directory of random weights."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import carpool
from carpool.core.step_policy import StepPolicy
from carpool.errors import BatcherClosed, ConfigError, InvalidItem, QueueFull, TargetError
from carpool.llm.consumer import QueueConsumer
from tests.llm.tiny import byte_tokenizer, save, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from carpool.llm.outputs import Output

PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A directory of a model."""
    return str(save(tiny_model("llama"), tmp_path_factory.mktemp("llama")))


@pytest.fixture(scope="module")
def llm(target: str) -> Iterator[carpool.LLM]:
    """The model, running; with room for few sequences."""
    policy = StepPolicy(num_slots=4, token_budget=32, max_waiting=4)
    with carpool.LLM(target, dtype="float32", kv_memory="1MiB", policy=policy) as made:
        yield made


def _greedy(text: str, num_tokens: int) -> list[int]:
    """What transformers generates."""
    ids = torch.tensor([byte_tokenizer().encode(text).ids])
    made: Any = tiny_model("llama").generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=num_tokens
    )
    tokens: list[int] = made[0, ids.shape[1] :].tolist()
    return tokens


def test_texts_are_those_of_the_model(llm: carpool.LLM) -> None:
    """More prompts than may wait at a time, in order."""
    prompts = [f"{PROMPT} {number}" for number in range(20)]
    completions = llm.generate(prompts, temperature=0, max_tokens=5)
    for prompt, completion in zip(prompts, completions, strict=True):
        wanted = _greedy(prompt, 5)
        assert list(completion.token_ids) == wanted
        ended = wanted[-1] == 2
        assert completion.text == byte_tokenizer().decode(wanted)
        assert completion.finish_reason == ("stop" if ended else "length")
        assert list(completion.prompt_token_ids) == byte_tokenizer().encode(prompt).ids


def test_one_prompt_may_be_a_text_or_tokens(llm: carpool.LLM) -> None:
    """Both give a list of one."""
    ids = byte_tokenizer().encode(PROMPT).ids
    (by_text,) = llm.generate(PROMPT, temperature=0, max_tokens=4)
    (by_ids,) = llm.generate(ids, temperature=0, max_tokens=4)
    assert by_text.token_ids == by_ids.token_ids
    assert llm.generate([]) == []


def test_each_prompt_may_have_its_own_parameters(llm: carpool.LLM) -> None:
    """And several texts; a seed gives the same ones again."""
    brief = carpool.SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
    many = carpool.SamplingParams(seed=3, max_tokens=6, n=3, logprobs=1, prompt_logprobs=0, ignore_eos=True)
    one, three = llm.generate([PROMPT, PROMPT], [brief, many])
    assert len(one.token_ids) == 2
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len({choice.token_ids for choice in three.choices}) > 1
    assert all(len(choice.logprobs) == 6 for choice in three.choices)
    assert len(three.prompt_logprobs) == len(three.prompt_token_ids)
    again = llm.generate(PROMPT, many)[0]
    assert [choice.token_ids for choice in again.choices] == [choice.token_ids for choice in three.choices]


def test_prompt_that_fails_costs_the_others_nothing(llm: carpool.LLM) -> None:
    """Its error stands in its place, or is raised."""
    prompts: list[Any] = [PROMPT, [10**6], "", [5] * 500, 5, None, "half \ud800", [1, "x"]]
    outcomes = llm.generate_outcomes(prompts, temperature=0, max_tokens=3, ignore_eos=True)
    assert len(getattr(outcomes[0], "token_ids", ())) == 3
    assert [type(outcome) for outcome in outcomes[1:]] == [InvalidItem] * 7
    assert str(outcomes[4]) == "a prompt is 5: give a text, or a list of token ids"
    assert "half a surrogate pair at character 5" in str(outcomes[6])
    with pytest.raises(InvalidItem, match="the token 1000000"):
        llm.generate(prompts)


@pytest.mark.parametrize("prompts", [None, 5, 1.5])
def test_what_is_no_prompt_is_refused(llm: carpool.LLM, prompts: Any) -> None:
    """With what to give instead."""
    with pytest.raises(InvalidItem, match="give a text, or a list of token ids"):
        llm.generate(prompts)


def test_tokens_may_come_as_an_array(llm: carpool.LLM) -> None:
    """As a tokenizer of another library gives them."""
    ids = byte_tokenizer().encode(PROMPT).ids
    forms: list[Any] = [ids, np.array(ids), torch.tensor(ids)]
    plain, array, tensor = llm.generate(forms, temperature=0, max_tokens=3)
    assert plain.token_ids == array.token_ids == tensor.token_ids


@pytest.mark.parametrize(
    ("prompts", "params", "sampling", "says"),
    [
        ([PROMPT], None, {"max_token": 5}, "did you mean 'max_tokens'"),
        ([PROMPT], carpool.SamplingParams(), {"max_tokens": 5}, "either params or max_tokens"),
        ([PROMPT], [carpool.SamplingParams()] * 2, {}, "2 params for 1 prompts"),
        ([PROMPT], {"max_tokens": 5}, {}, "give SamplingParams, or a list of them"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(
    llm: carpool.LLM, prompts: list[str], params: Any, sampling: dict[str, Any], says: str
) -> None:
    """With what was meant."""
    with pytest.raises(ConfigError, match=says):
        llm.generate(prompts, params, **sampling)


def test_conversation_is_laid_out_by_the_models_template(llm: carpool.LLM) -> None:
    """And answered like any prompt."""
    messages = [{"role": "user", "content": "hello"}]
    assert llm.chat_prompt(messages) == byte_tokenizer().encode("<s>hello").ids
    reply = llm.chat(messages, temperature=0, max_tokens=3, ignore_eos=True)
    assert list(reply.prompt_token_ids) == llm.chat_prompt(messages)
    assert len(reply.token_ids) == 3


def test_model_without_a_template_has_no_conversations(target: str, tmp_path: Path) -> None:
    """It says what to do in their place."""
    copy = tmp_path / "plain"
    shutil.copytree(target, copy)
    (copy / "tokenizer_config.json").write_text("{}")
    with (
        carpool.LLM(str(copy), dtype="float32", kv_memory="256KiB") as plain,
        pytest.raises(InvalidItem, match="no chat template: use generate"),
    ):
        plain.chat([{"role": "user", "content": "hello"}])


async def test_constraint_is_read_beside_the_event_loop(llm: carpool.LLM) -> None:
    """The text has its form."""
    form = carpool.Constraint.choice(["yes", "no"])
    outputs = [output async for output in llm.stream(PROMPT, constraint=form)]
    assert "".join(output.text for output in outputs) in ("yes", "no")


async def test_stream_gives_what_comes(llm: carpool.LLM) -> None:
    """The same text as in one piece; many at a time."""
    whole = llm.generate(PROMPT, temperature=0, max_tokens=6, ignore_eos=True)[0]

    async def gather() -> list[Output]:
        return [output async for output in llm.stream(PROMPT, temperature=0, max_tokens=6, ignore_eos=True)]

    for outputs in await asyncio.gather(*(gather() for _ in range(4))):
        assert "".join(output.text for output in outputs) == whole.text
        assert tuple(token for output in outputs for token in output.token_ids) == whole.token_ids
        assert [output.finish_reason for output in outputs][-1] == "length"


def test_interrupted_round_gives_its_places_back(llm: carpool.LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever presses Ctrl-C wants nothing more of it."""
    run_next = QueueConsumer.run_next
    calls = itertools.count()

    def interrupted(consumer: QueueConsumer) -> None:
        if next(calls):
            raise KeyboardInterrupt
        run_next(consumer)

    monkeypatch.setattr(QueueConsumer, "run_next", interrupted)
    with pytest.raises(KeyboardInterrupt):
        llm.generate([PROMPT] * 4, max_tokens=100, ignore_eos=True)
    assert (llm.engine.num_running, llm.engine.num_waiting, llm.engine.usage) == (0, 0, 0.0)
    llm.engine.check_integrity()


async def test_stream_that_is_left_gives_its_place_back(llm: carpool.LLM) -> None:
    """Before the next step."""
    stream = llm.stream(PROMPT, max_tokens=100, ignore_eos=True)
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert (llm.engine.num_running, llm.engine.num_waiting, llm.engine.usage) == (0, 0, 0.0)
    llm.engine.check_integrity()


async def test_thousand_streams_of_which_half_are_left_lose_nothing(target: str) -> None:
    """No block, no sequence and no task; the others have what they would have had alone."""
    chance = random.Random(11)
    policy = StepPolicy(num_slots=64, token_budget=256, max_waiting=1000)
    wanted = {text: _greedy(text, 8) for text in (PROMPT, "One two", "a")}

    async def visit(llm: carpool.LLM, place: int) -> None:
        text = chance.choice(list(wanted))
        num_tokens, leaves_after = chance.randrange(1, 9), chance.randrange(8) if place % 2 else 8
        token_ids: list[int] = []
        stream = llm.stream(text, temperature=0, max_tokens=num_tokens)
        async for output in stream:
            token_ids.extend(output.token_ids)
            if len(token_ids) > leaves_after:
                break
        await stream.aclose()  # type: ignore[attr-defined]
        assert token_ids == wanted[text][: len(token_ids)]
        assert len(token_ids) > min(leaves_after, len(wanted[text][:num_tokens]) - 1)

    async with carpool.LLM(target, dtype="float32", kv_memory="256KiB", policy=policy) as llm:
        before = len(asyncio.all_tasks())
        await asyncio.gather(*(visit(llm, place) for place in range(1000)))
        assert (llm.engine.num_running, llm.engine.num_waiting, llm.engine.usage) == (0, 0, 0.0)
        llm.engine.check_integrity()
        assert len(asyncio.all_tasks()) == before
        endings = llm.engine.metrics.totals().endings
        assert sum(endings.values()) == 1000
        assert endings["abort"] > 100


async def test_stream_raises_what_it_was_refused_for(llm: carpool.LLM) -> None:
    """A prompt that can't be, or too many that wait."""
    with pytest.raises(InvalidItem):
        _ = [output async for output in llm.stream([])]

    async def visit() -> None:
        async for _ in llm.stream(PROMPT, max_tokens=50, ignore_eos=True):
            pass

    outcomes = await asyncio.gather(*(visit() for _ in range(60)), return_exceptions=True)
    kinds = {type(outcome) for outcome in outcomes}
    assert kinds <= {QueueFull, type(None)}
    assert type(None) in kinds


def test_model_starts_at_its_first_use_and_ends_once(target: str) -> None:
    """Afterwards it says that it is closed."""
    llm = carpool.LLM(target, dtype="float32", kv_memory="1MiB", max_length=32)
    assert len(llm.generate(PROMPT, ignore_eos=True)[0].token_ids) == 32 - len(byte_tokenizer().encode(PROMPT).ids)
    llm.close()
    with pytest.raises(BatcherClosed):
        llm.generate(PROMPT)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_slot": 3}, "did you mean 'num_slots'"),
        ({"policy": StepPolicy(), "num_slots": 3}, "either policy or num_slots"),
        ({"token_budget": 0}, "token_budget is 0"),
        ({"num_slots": 600, "token_budget": 100}, "token_budget is 100"),
        ({"num_slots": "x"}, "num_slots is 'x'"),
        ({"dtype": "int3"}, "dtype 'int3' is not known; write auto, float32, bfloat16, float16 or float64"),
        ({"kv_memory": -1}, "kv_memory is -1"),
        ({"max_length": 0}, "max_length is 0"),
    ],
)
def test_options_that_cannot_be_are_refused_at_once(target: str, options: dict[str, Any], says: str) -> None:
    """Before anything is loaded."""
    with pytest.raises(ConfigError, match=says):
        carpool.LLM(target, **options)


def test_target_that_is_not_there_is_noticed_at_once() -> None:
    """And not when the first prompt comes."""
    with pytest.raises(TargetError, match="'nowhere' is not here"):
        carpool.LLM("nowhere")
    with pytest.raises(TargetError, match="demo:minilm is no causal language model"):
        carpool.LLM("demo:minilm")


def test_length_beyond_the_models_is_refused_at_the_start(target: str) -> None:
    """It names both."""
    with pytest.raises(ConfigError, match=r"max_length is 100000, and .* takes 2 to 128 tokens"):
        carpool.LLM(target, max_length=100_000).start()


def test_many_slots_raise_the_budget_that_was_not_given(target: str) -> None:
    """Each running sequence needs a token of every step."""
    assert carpool.LLM(target, num_slots=1000).engine.policy.token_budget == 1000
