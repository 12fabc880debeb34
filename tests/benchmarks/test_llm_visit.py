"""What a visit to an engine writes down, and how tokens are held against the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from peers.llm.visit import batch, load
from rig.llm.answers import Agreement, agreements, shortfalls
from transformers import LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers.llm.engine import Listener, Request

ASKED = [{"prompt": [1, 2], "num_output": 2}, {"prompt": [3], "num_output": 3}]
ORDERS = {"warm": ASKED, "requests": ASKED, "single": ASKED[:1], "patience_s": 0.001, "start_limit_s": 0.001}


class Echo:
    """An engine that repeats the first token of a prompt, and finishes requests up to a length.

    Args:
        longest: output that it finishes, in tokens.
        spare: tokens that it gives too few.
    """

    def __init__(self, longest: int = 3, spare: int = 0) -> None:
        self._longest = longest
        self._spare = spare

    def generate(self, requests: Sequence[Request]) -> list[list[int]]:
        """Repeat."""
        return [one.prompt[:1] * (one.num_output - self._spare) for one in requests]

    def submit(self, request: Request, on_tokens: Listener) -> None:
        """Tell of as many as it finishes."""
        on_tokens(min(request.num_output, self._longest))


def test_a_batch_gives_the_tokens_of_all_and_of_one_alone() -> None:
    """With the seconds that each took."""
    found = batch(Echo(), ORDERS)
    assert found["batch"]["tokens"] == [[1, 1], [3, 3, 3]]
    assert found["single"]["tokens"] == [[1, 1]]
    assert found["single"]["seconds"] > 0
    assert found["batch"]["cpu_s"] >= 0


def test_an_engine_that_makes_too_few_tokens_is_not_measured() -> None:
    """It would look faster than it is."""
    with pytest.raises(RuntimeError, match="1 tokens came where 2 were asked for"):
        batch(Echo(spare=1), ORDERS)


def test_loads_end_with_the_first_that_is_not_finished() -> None:
    """What is left of it would slow the next one."""
    loops = [{"requests": ASKED, "due": [0.0, 0.0]}] * 2
    assert [len(record) for loop in load(Echo(), ORDERS | {"loops": loops})["loops"] for record in loop] == [2, 3, 2, 3]
    assert [[len(record) for record in loop] for loop in load(Echo(2), ORDERS | {"loops": loops})["loops"]] == [[2, 2]]


@pytest.fixture
def model() -> Any:
    """A small Llama with random weights."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    made: Any = LlamaForCausalLM(LlamaConfig(vocab_size=64, max_position_embeddings=64, **sizes))
    return made.eval()


def greedy(model: Any, prompt: list[int], num: int) -> list[int]:
    """Let transformers choose the tokens."""
    out = model.generate(
        torch.tensor([prompt]), max_new_tokens=num, min_new_tokens=num, do_sample=False, pad_token_id=0
    )
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def test_the_models_own_tokens_fall_short_of_nothing(model: Any) -> None:
    """Greedy tokens are the most likely; another one in their midst is not, whatever follows it."""
    tokens = greedy(model, [5, 6, 7], 6)
    assert shortfalls(model, [5, 6, 7], tokens) == [0.0] * 6
    other = [*tokens[:2], (tokens[2] + 1) % 64, *tokens[3:]]
    gaps = shortfalls(model, [5, 6, 7], other)
    assert gaps[:2] == [0.0, 0.0]
    assert gaps[2] > 0


def test_agreement_is_a_share_of_all_tokens(model: Any, tmp_path: Path) -> None:
    """An engine that gives the model's tokens agrees wholly; one that gives noise is implausible."""
    model.save_pretrained(tmp_path)
    asked: list[dict[str, Any]] = [{"prompt": [number + 3, 9], "num_output": 8} for number in range(3)]
    right = [greedy(model, one["prompt"], 8) for one in asked]
    wrong = [[(token + 7) % 64 for token in row] for row in right]
    found = agreements(tmp_path, asked, {"right": right, "wrong": wrong})
    assert found["right"] == Agreement(1.0, 1.0, 0.0)
    assert found["right"].plausible
    assert not found["wrong"].plausible
    assert found["wrong"].shortfall > 0
