"""What `carpool serve` says once it is ready, of models that answer in batches and of those that generate."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from carpool.cli.main import main
from carpool.cli.output import Output
from carpool.cli.serve_notes import announce
from carpool.serve.offer import Offer
from tests.serve.fakes import Doubler
from tests.serve.fakes import offer as batched
from tests.serve.llm.rig import language_model

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "http://127.0.0.1:8000"


@contextmanager
def ready() -> Iterator[Offer]:
    """Offer a model of each kind, and let them start."""
    offer = Offer.of(language_model(name="lm"), batched(Doubler(), name="rows"))
    offer.start()
    try:
        yield offer
    finally:
        offer.close(5.0)


def test_each_kind_has_its_sentence_and_its_paths(capsys: pytest.CaptureFixture[str]) -> None:
    """How many at a time, and where to ask."""
    with ready() as offer:
        announce(Output(json=False), offer, URL, None)
    said = capsys.readouterr().out
    assert f"lm (generator, cpu) is ready on {URL}: up to 8 sequences at a time, a KV cache of 256 tokens" in said
    assert f"rows (function, cpu) is ready on {URL}: batches of up to 32" in said
    assert "/predict/rows, /v2/models/rows/infer, /v1/completions, /v1/chat/completions, /v1/embeddings, /docs" in said


def test_programs_are_told_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """With the sizes of what holds the sequences."""
    with ready() as offer:
        announce(Output(json=True), offer, URL, "127.0.0.1:8001")
    told = json.loads(capsys.readouterr().out)
    assert told["grpc"] == "127.0.0.1:8001"
    model = next(one for one in told["models"] if one["model"] == "lm")
    assert (model["num_slots"], model["token_budget"], model["max_length"]) == (8, 64, 128)
    assert (model["num_blocks"], model["block_size"], model["info"]["kind"]) == (64, 4, "generator")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo:smollm2", "--num-slots", "0"], "llm.num_slots is 0"),
        (["demo:smollm2", "--max-batch-size", "8"], "--max-batch-size does nothing for a language model"),
        (["demo:smollm2", "--token-budget", "8"], "token_budget is 8, below num_slots 64"),
        (["demo:smollm2", "--ttft", "0"], "'0' is no time at all"),
        (["demo:smollm2", "--on", "ray"], "demo:smollm2 generates text, which is not done on Ray"),
        (["demo:null", "--deterministic"], "--deterministic does nothing for a model: it is for language models"),
        (["nowhere.gguf"], "nowhere.gguf"),
    ],
)
def test_wrong_use_is_told_without_a_traceback(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do instead."""
    assert main(["serve", "--port", "0", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
