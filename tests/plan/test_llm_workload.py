"""What arrives at a model that generates: lengths drawn or as recorded, common beginnings, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from carpool.config.settings import load_settings
from carpool.errors import ConfigError
from carpool.plan.llm_workload import Clipped, Lengths, LlmWorkload
from carpool.plan.llm_workload_table import llm_from_settings, llm_to_table
from carpool.plan.process import Poisson, Replay
from carpool.plan.trace import read_trace
from tests.plan.llm_scenes import workload

SPREAD = {"length_spread": 0.7}
AZURE = Path(__file__).parents[1] / "data" / "azure_conversation.csv"


def told(**keys: Any) -> LlmWorkload:
    """The workload of some keys of `[workload]`."""
    flags = {f"workload.{key}": value for key, value in keys.items()}
    return llm_from_settings(load_settings(flags=flags).workload)


def test_lengths_spread_about_their_mean() -> None:
    """A lognormal factor of mean 1: the spread is that of the logarithm, and nothing is below one token."""
    drawn = Lengths(typical=(200,), spread=0.5).draw(np.random.default_rng(0), 20_000)
    assert drawn.mean() == pytest.approx(200, rel=0.02)
    assert np.log(drawn).std() == pytest.approx(0.5, rel=0.03)
    assert Lengths(typical=(1,), spread=2.0).draw(np.random.default_rng(0), 1000).min() == 1
    assert set(Lengths(typical=(5, 9)).draw(np.random.default_rng(0), 100).tolist()) == {5, 9}


def test_a_trace_keeps_prompts_and_answers_together() -> None:
    """Each arrival has the prompt and the answer that were recorded with it, also in a window that goes round."""
    trace = read_trace(AZURE)
    assert trace.lengths is not None
    assert trace.output_lengths is not None
    pairs = set(zip(trace.lengths.tolist(), trace.output_lengths.tolist(), strict=True))
    load = LlmWorkload(arrivals=Replay(trace=trace))
    for window_s in (10.0, 2.5 * trace.duration_s):
        stream = load.draw(np.random.default_rng(1), window_s)
        drawn = set(zip(stream.prompt_lengths.tolist(), stream.output_lengths.tolist(), strict=True))
        assert drawn <= pairs
        assert len(stream) > 0
    assert "as recorded" in load.describe()


def test_lengths_that_were_given_win_over_a_traces() -> None:
    """Prompts as told, answers as recorded."""
    load = LlmWorkload(arrivals=Replay(trace=read_trace(AZURE)), prompts=Lengths(typical=(64,)))
    stream = load.draw(np.random.default_rng(0), 30.0)
    assert set(stream.prompt_lengths.tolist()) == {64}
    assert len(set(stream.output_lengths.tolist())) > 5


def test_prompts_share_one_of_some_beginnings() -> None:
    """Each has one of them, all of them come."""
    stream = workload(20.0, shared_prefix=50, num_prefixes=3).draw(np.random.default_rng(0), 10.0)
    assert stream.prefixes is not None
    assert set(stream.prefixes.tolist()) == {0, 1, 2}
    assert workload(20.0).draw(np.random.default_rng(0), 10.0).prefixes is None


def test_what_is_longer_than_the_model_takes_is_cut() -> None:
    """Prompt and answer together fit, each keeps at least a token, and the share of those that were is told."""
    load = workload(50.0, prompts=Lengths(typical=(90,), spread=1.0), outputs=Lengths(typical=(90,), spread=1.0))
    cut = Clipped(workload=load, max_length=128)
    stream = cut.draw(np.random.default_rng(0), 10.0)
    assert (stream.prompt_lengths + stream.output_lengths).max() <= 128
    assert min(stream.prompt_lengths.min(), stream.output_lengths.min()) >= 1
    assert 0.3 < cut.share_cut(np.random.default_rng(0)) < 0.9
    assert Clipped(workload=load, max_length=100_000).share_cut(np.random.default_rng(0)) == 0.0


def test_a_part_is_what_one_of_several_workers_gets() -> None:
    """In turn: together they are all of it."""
    stream = workload(10.0, shared_prefix=8).draw(np.random.default_rng(0), 10.0)
    parts = [stream.part(number, 3) for number in range(3)]
    assert sum(map(len, parts)) == len(stream)
    assert sorted(np.concatenate([part.times_s for part in parts]).tolist()) == stream.times_s.tolist()


@pytest.mark.parametrize(
    "keys",
    [
        {"rate": 2, "arrivals": "poisson", "lengths": [200], "output_lengths": [80, 300]},
        {
            "rate": 2,
            "arrivals": "gamma",
            "burstiness": 3.0,
            "lengths": [9],
            "output_lengths": [8],
            "length_spread": 0.7,
        },
        {"trace": str(AZURE), "shared_prefix": 64, "num_prefixes": 4},
    ],
)
def test_a_workload_goes_to_its_table_and_back(keys: dict[str, Any]) -> None:
    """The same keys, and the same workload of them."""
    load = told(**keys)
    assert llm_to_table(load) == keys
    assert told(**llm_to_table(load)).describe() == load.describe()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"rate": 2, "output_lengths": [8]}, "nothing says how long prompts are: give --lengths"),
        ({"rate": 2, "lengths": [8]}, "nothing says how long answers are: give --output-lengths"),
        ({"rate": 2, "lengths": [8], "output_lengths": [8], "patience": 3}, "patience is not planned for"),
        ({"rate": 2, "lengths": [8], "output_lengths": [8], "priorities": {"5": 1.0}}, "priorities is not planned"),
        ({"lengths": [8], "output_lengths": [8]}, "nothing says how many items arrive"),
    ],
)
def test_what_makes_no_workload_is_refused(keys: dict[str, Any], said: str) -> None:
    """With what to give instead."""
    with pytest.raises(ConfigError, match=said):
        told(**keys)


@pytest.mark.parametrize("wrong", [{"shared_prefix": -1}, {"num_prefixes": 0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    """By their value."""
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        LlmWorkload(arrivals=Poisson(rate=1), prompts=Lengths(typical=(4,)), outputs=Lengths(typical=(4,)), **wrong)
    with pytest.raises(ConfigError):
        Lengths(typical=())
    with pytest.raises(ConfigError):
        Lengths(typical=(4,), spread=-1.0)
