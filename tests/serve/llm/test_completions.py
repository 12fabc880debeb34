"""`/v1/completions`: prompts in all their forms, whole answers and streams, log probabilities and echoes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.llm.fake_runner import EOS, FakeRunner, expected, text, tokens
from tests.serve.llm.rig import events, serving

PATH = "/v1/completions"
PROMPT = "hello there"


def asked(**more: Any) -> dict[str, Any]:
    """Return a request that has one right answer."""
    return {"model": "m", "prompt": PROMPT, "temperature": 0, "max_tokens": 6, **more}


def right(prompt: str = PROMPT, num: int = 6) -> str:
    """Return the answer."""
    return text(expected(tokens(prompt), num))


async def test_text_is_gone_on_from() -> None:
    """The answer is what the model says; what it took is told."""
    async with serving() as client:
        answer = await client.post(PATH, asked())
    document = answer.json
    assert answer.status == 200
    assert document["object"] == "text_completion"
    assert document["model"] == "m"
    assert document["id"].startswith("cmpl-")
    [choice] = document["choices"]
    assert (choice["text"], choice["finish_reason"], choice["index"]) == (right(), "length", 0)
    assert choice["logprobs"] is None
    usage = document["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (11, 6, 17)


@pytest.mark.parametrize(
    "prompt",
    [[PROMPT, "a"], [tokens(PROMPT), tokens("a")], (tokens(PROMPT), "a")],
    ids=["texts", "token ids", "both"],
)
async def test_several_prompts_are_answered_in_order(prompt: Any) -> None:
    """Whatever they are written as."""
    async with serving() as client:
        answer = await client.post(PATH, asked(prompt=prompt))
    choices = answer.json["choices"]
    assert [(one["index"], one["text"]) for one in choices] == [(0, right()), (1, right("a"))]
    assert answer.json["usage"]["prompt_tokens"] == 12


async def test_one_prompt_may_be_token_ids() -> None:
    """A list of numbers is one prompt."""
    async with serving() as client:
        answer = await client.post(PATH, asked(prompt=tokens(PROMPT)))
    assert [one["text"] for one in answer.json["choices"]] == [right()]


async def test_model_says_16_tokens_where_nothing_is_said() -> None:
    """As OpenAI's does; and fewer where no more fit."""
    async with serving() as client:
        usual = await client.post(PATH, asked(max_tokens=None))
        near = await client.post(PATH, asked(max_tokens=None, prompt="a" * 120))
    assert usual.json["usage"]["completion_tokens"] == 16
    assert near.json["usage"]["completion_tokens"] == 8


async def test_n_answers_are_numbered_through_all_prompts() -> None:
    """Those of the first prompt come first."""
    async with serving() as client:
        answer = await client.post(PATH, asked(prompt=["ab", "cd"], n=2))
    found = [(one["index"], one["text"]) for one in answer.json["choices"]]
    assert found == [(0, right("ab")), (1, right("ab")), (2, right("cd")), (3, right("cd"))]
    assert answer.json["usage"]["completion_tokens"] == 24


async def test_stream_is_the_answer_in_parts() -> None:
    """Tokens that come together are told together; the last event says why it ended; then the mark of the end."""
    async with serving() as client:
        answer = await client.post(PATH, asked(stream=True))
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    parts = events(answer.body)
    assert "".join(part["choices"][0]["text"] for part in parts) == right()
    assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * (len(parts) - 1) + ["length"]
    assert len({part["id"] for part in parts}) == 1
    assert all("usage" not in part for part in parts)


async def test_stream_tells_what_it_took_where_asked() -> None:
    """In a last event without choices; in every one where that is asked for too."""
    async with serving() as client:
        once = events((await client.post(PATH, asked(stream=True, stream_options={"include_usage": True}))).body)
        options = {"include_usage": True, "continuous_usage_stats": True}
        always = events((await client.post(PATH, asked(stream=True, stream_options=options))).body)
    assert [part["usage"] for part in once[:-1]] == [None] * (len(once) - 1)
    assert once[-1]["choices"] == []
    assert once[-1]["usage"]["completion_tokens"] == 6
    told = [part["usage"]["completion_tokens"] for part in always]
    assert told == sorted(told)
    assert told[-2:] == [6, 6]


async def test_stop_text_ends_the_answer_and_is_left_out() -> None:
    """Unless it is to stay; what is behind it is not said."""
    stop = right()[2:4]
    async with serving() as client:
        without = (await client.post(PATH, asked(stop=stop))).json["choices"][0]
        kept = (await client.post(PATH, asked(stop=[stop], include_stop_str_in_output=True))).json["choices"][0]
    assert (without["text"], without["finish_reason"], without["stop_reason"]) == (right()[:2], "stop", stop)
    assert kept["text"] == right()[:4]


async def test_end_of_text_stops_unless_it_is_ignored() -> None:
    """A request that goes on regardless says as much as it asked for."""
    prompt = next([place] for place in range(EOS) if len(expected([place], 40, can_end=True)) < 30)
    async with serving(FakeRunner(can_end=True)) as client:
        ended = (await client.post(PATH, asked(prompt=prompt, max_tokens=40))).json
        went_on = (await client.post(PATH, asked(prompt=prompt, max_tokens=40, ignore_eos=True))).json
    assert ended["choices"][0]["finish_reason"] == "stop"
    assert ended["choices"][0]["text"] == text(expected(prompt, 40, can_end=True))
    assert went_on["usage"]["completion_tokens"] == 40


async def test_logprobs_are_told_of_each_token() -> None:
    """The chosen ones, the most likely, and where each begins."""
    async with serving() as client:
        choice = (await client.post(PATH, asked(logprobs=2))).json["choices"][0]
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == choice["text"]
    assert told["text_offset"] == list(range(6))
    assert all(len(top) == 2 for top in told["top_logprobs"])
    assert told["token_logprobs"] == [max(top.values()) for top in told["top_logprobs"]]


@pytest.mark.parametrize("streams", [False, True])
async def test_echo_tells_of_the_prompt_too(streams: bool) -> None:
    """What harnesses ask that score texts: the prompt's tokens, then one more; nothing comes before the first."""
    async with serving() as client:
        answer = await client.post(PATH, asked(echo=True, logprobs=1, max_tokens=1, stream=streams))
    choices = [one["choices"][0] for one in (events(answer.body) if streams else [answer.json])]
    told: dict[str, list[Any]] = {}
    for choice in choices:
        for name, values in choice["logprobs"].items():
            told[name] = [*told.get(name, []), *values]
    assert "".join(choice["text"] for choice in choices) == PROMPT + right(num=1)
    assert "".join(told["tokens"]) == PROMPT + right(num=1)
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert all(value < 0 for value in told["token_logprobs"][1:])
    assert told["text_offset"] == list(range(12))


async def test_prompt_alone_is_scored() -> None:
    """Nothing is generated, as far as anybody is told."""
    async with serving() as client:
        document = (await client.post(PATH, asked(echo=True, logprobs=1, max_tokens=0))).json
    choice = document["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")
    assert len(choice["logprobs"]["tokens"]) == len(PROMPT)
    assert document["usage"]["completion_tokens"] == 0


async def test_prompt_logprobs_and_token_ids_are_told_as_vllm_does() -> None:
    """By the tokens' ids."""
    async with serving() as client:
        choice = (await client.post(PATH, asked(prompt_logprobs=1, return_token_ids=True))).json["choices"][0]
    assert choice["token_ids"] == expected(tokens(PROMPT), 6)
    assert choice["prompt_token_ids"] == tokens(PROMPT)
    first, second, *_ = choice["prompt_logprobs"]
    assert first is None
    told = second[str(tokens("e")[0])]
    assert told["decoded_token"] == PROMPT[1]
    assert 1 in [one["rank"] for one in second.values()]


async def test_seed_gives_the_same_answer_again() -> None:
    """Whatever else runs."""
    async with serving() as client:
        request = asked(temperature=50.0, seed=7, max_tokens=12)
        alone = await client.post(PATH, request)
        beside = await asyncio.gather(
            *(client.post(PATH, asked(temperature=50.0, seed=s)) for s in (1, 2)), client.post(PATH, request)
        )
    assert beside[-1].json["choices"][0]["text"] == alone.json["choices"][0]["text"]


async def test_cached_tokens_of_a_prompt_are_told() -> None:
    """The second time it is asked most of it is known; with another salt it is not."""
    async with serving() as client:
        await client.post(PATH, asked())
        again = await client.post(PATH, asked())
        apart = await client.post(PATH, asked(cache_salt="mine"))
    assert again.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 8
    assert apart.json["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
