"""What the LLM benchmark asks for, how it drives an engine, and what it makes of when tokens came."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from peers.llm.engine import Request
from peers.llm.open_loop import Arrivals, drive
from rig.llm.figures import figures, in_time
from rig.llm.limit import TOKEN_BUDGET, Rates, StepSize, limit_s, products_s, read, schedule
from rig.llm.model import Shape
from rig.llm.work import MAX_LENGTH, NUM_SLOTS, loop, num_output, requests, single, warm_up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peers.llm.engine import Listener

SHAPE = Shape(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocabulary_size=49152,
)


class Echo:
    """An engine that has all tokens of a request at once."""

    def generate(self, asked: Sequence[Request]) -> list[list[int]]:
        """Give as many zeros as were asked for."""
        return [[0] * request.num_output for request in asked]

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Tell of the first token, then of all."""
        on_tokens(1)
        on_tokens(request.num_output)


class Mute(Echo):
    """An engine that never finishes."""

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Tell of the first token alone."""
        on_tokens(1)


def test_the_work_is_the_same_for_everybody() -> None:
    """The seed gives 12,851 prompt tokens and 8,944 output tokens, within what an engine is told to expect."""
    work = requests(96)
    assert sum(len(one["prompt"]) for one in work) == 12_851
    assert num_output(work) == 8_944
    assert max(len(one["prompt"]) + one["num_output"] for one in work) < MAX_LENGTH
    assert work == requests(96)


def test_no_prompt_is_seen_twice() -> None:
    """Neither warming up nor an earlier loop leaves a prompt in a cache that another would hit."""
    loops = [loop(2.0, 20.0, number) for number in range(2)]
    seen = [*requests(96), *warm_up(), *single(), *(one for each in loops for one in each.requests)]
    assert len({tuple(one["prompt"]) for one in seen}) == len(seen)


def test_a_loop_comes_at_its_rate() -> None:
    """200 requests are expected in 100 s at 2 a second; they come in order, within the time."""
    found = loop(2.0, 100.0, 0)
    assert len(found.due) == len(found.requests)
    assert len(found.due) == pytest.approx(200, rel=0.2)
    assert found.due == sorted(found.due)
    assert found.due[0] >= 0
    assert found.due[-1] < 100


def test_the_schedule_computes_every_token_once() -> None:
    """All prompt tokens, and every output token but the last of each, go through the layers; each output is wanted."""
    work = requests(96)
    steps = list(schedule(work, NUM_SLOTS))
    assert sum(step.num_tokens for step in steps) == 12_851 + 8_944 - 96
    assert sum(step.num_wanted for step in steps) == 8_944
    assert max(step.num_tokens for step in steps) == TOKEN_BUDGET
    assert max(step.num_wanted for step in steps) <= NUM_SLOTS


def test_the_schedule_of_one_request() -> None:
    """A prompt of 5 under a budget of 3 takes two steps; its other two tokens one each, over a growing cache."""
    steps = list(schedule([{"prompt": [1] * 5, "num_output": 3}], num_slots=1, token_budget=3))
    assert steps == [StepSize(3, 0, 3), StepSize(2, 1, 5), StepSize(1, 1, 6), StepSize(1, 1, 7)]


def test_the_limit_is_the_slower_of_memory_and_arithmetic() -> None:
    """One sequence waits for the weights; 512 tokens for the products; keys and values come on top."""
    assert SHAPE.weights_bytes == 2 * (106_168_320 + 28_311_552)
    assert SHAPE.kv_bytes == 23_040
    rates = Rates(bytes_per_s=25e9, flops_per_s=1e12, product_s={1: 0.01, 512: 0.2})
    alone = limit_s([StepSize(1, 1, 0)], SHAPE, rates)
    assert alone == pytest.approx(SHAPE.weights_bytes / 25e9)
    assert limit_s([StepSize(1, 1, 1_000)], SHAPE, rates) == pytest.approx(alone + 23_040_000 / 25e9)
    assert limit_s([StepSize(512, 0, 0)], SHAPE, rates) == pytest.approx(2 * 512 * 106_168_320 / 1e12)


def test_products_are_interpolated_between_the_sizes_measured() -> None:
    """Halfway between two sizes takes the mean of their times; JSON's keys are read as numbers."""
    rates = read({"bytes_per_s": 1.0, "flops_per_s": 1.0, "product_s": {"1": 0.1, "3": 0.3}})
    assert products_s([StepSize(2, 2, 0), StepSize(3, 3, 0)], rates) == pytest.approx(0.5)


def test_a_request_is_in_time_by_both_limits() -> None:
    """A late first token, a slow pace and a missing token each make it late; one token has no pace."""
    assert in_time(0.0, [0.9, 1.0, 1.1], 3)
    assert not in_time(0.0, [1.1, 1.2, 1.3], 3)
    assert not in_time(0.0, [0.5, 0.7, 0.9], 3)
    assert not in_time(0.0, [0.5, 0.6], 3)
    assert in_time(0.0, [0.5], 1)


def test_a_loop_in_figures() -> None:
    """One of two requests in 2 s is in time; the other had no token, so that its TTFT has no end."""
    work = [{"prompt": [1], "num_output": 3}, {"prompt": [1], "num_output": 2}]
    found = figures(work, [0.0, 1.0], [[0.5, 0.6, 0.75], []], 2.0)
    assert (found.num, found.num_unfinished, found.share_in_time, found.goodput) == (2, 1, 0.5, 0.5)
    assert found.ttft_p50_s == 0.5
    assert found.ttft_p99_s == math.inf
    assert found.itl_p99_s == pytest.approx(0.15)


def test_arrivals_note_every_token_once() -> None:
    """Two tokens that come together are noted twice at one instant; being told again adds nothing."""
    now = iter([10.0, 11.0, 12.0])
    arrivals = Arrivals([Request([1], 3)], clock=lambda: next(now))
    told = arrivals.listener(0)
    told(2)
    told(2)
    assert not arrivals.all_there.is_set()
    told(3)
    assert arrivals.records == [[1.0, 1.0, 2.0]]
    assert arrivals.all_there.is_set()


def test_a_loop_ends_with_the_last_token_or_the_patience() -> None:
    """An engine that answers leaves whole records; of one that does not, what came is kept."""
    work = [Request([1], 2), Request([1], 3)]
    assert [len(record) for record in drive(Echo(), work, [0.0, 0.001], patience_s=60.0)] == [2, 3]
    assert [len(record) for record in drive(Mute(), work, [0.0, 0.001], patience_s=0.001)] == [1, 1]
