"""What the LLM benchmark makes of its visits: ratios within rounds, tables, the section and the picture."""

from __future__ import annotations

from typing import Any

import pytest
from rig.llm.answers import Agreement
from rig.llm.contenders import CONTENDERS
from rig.llm.model import Shape
from rig.llm.report import picture, section, tables
from rig.llm.results import Results, Round, ratios
from rig.llm.work import Loop, requests

SHAPE = Shape(
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    vocabulary_size=49152,
)
LIMIT = {"bytes_per_s": 25e9, "flops_per_s": 1e12, "product_s": {"1": 0.01, "64": 0.03, "512": 0.2}}
LOOPS = (
    Loop(1.0, requests(4, seed=3), [0.0, 1.0, 2.0, 3.0]),
    Loop(2.0, requests(8, seed=4), [0.5 * number for number in range(8)]),
)


def batch(seconds: float) -> dict[str, Any]:
    """Give a visit with all requests at once."""
    found = {"seconds": seconds, "cpu_s": 2 * seconds, "tokens": [[1, 2]]}
    return {"ready_s": 4.0, "peak_mib": 900.0, "batch": found, "single": {"seconds": seconds / 10, "tokens": [[1]]}}


def load(interval_s: float, num_loops: int = 2) -> dict[str, Any]:
    """Give a visit to an engine that has a token of each request at an interval."""
    loops = [
        [
            [at + interval_s * (i + 1) for i in range(one["num_output"])]
            for at, one in zip(loop.due, loop.requests, strict=True)
        ]
        for loop in LOOPS[:num_loops]
    ]
    return {"ready_s": 4.0, "peak_mib": 900.0, "loops": loops}


def round_of(scale: float = 1.0) -> Round:
    """Give a round in which we take 10 s, vLLM 12, OpenVINO 11 and the others 20, each times a scale."""
    taken = dict.fromkeys(CONTENDERS, 20.0) | {"carpool": 10.0, "vllm": 12.0, "openvino": 11.0}
    visits = {name: batch(scale * seconds) for name, seconds in taken.items()}
    loads = {name: load(0.2) for name, contender in CONTENDERS.items() if contender.online}
    return Round(LIMIT, visits, loads | {"carpool": load(0.05), "vllm": load(0.1), "openvino": load(0.12, 1)})


def results_of(*rounds: Round, loops: tuple[Loop, ...] = LOOPS) -> Results:
    """Put rounds together."""
    agreements = {name: Agreement(0.97, 1.0, 0.01) for one in rounds for name in one.batch}
    return Results(rounds=list(rounds), shape=SHAPE, num_requests=96, loops=loops, seconds=4.0, agreements=agreements)


@pytest.fixture
def results() -> Results:
    """Three rounds; the machine is half as fast in the second one."""
    return results_of(round_of(), round_of(2.0), round_of())


def test_ratios_are_taken_within_a_round(results: Results) -> None:
    """A slow round slows both sides."""
    found = ratios(results)
    assert found["vs_vllm"] == pytest.approx(1.2)
    assert found["vs_openvino"] == pytest.approx(1.1)
    assert found["vs_transformers"] == pytest.approx(2.0)
    assert found["batch_1_vs_best"] == pytest.approx(1.1)
    assert found["deterministic_vs_default"] == pytest.approx(0.5)


def test_goodput_is_the_best_over_the_loads(results: Results) -> None:
    """We and vLLM answer all 8 in time; OpenVINO was cut off after the first load; the others are too slow."""
    found = ratios(results)
    assert found["goodput_vs_vllm"] == 1.0
    assert found["goodput_vs_openvino"] == 2.0
    assert found["goodput_vs_best"] == 1.0
    assert found["p99_itl_vs_best"] == pytest.approx(0.5)


def test_what_was_not_run_has_no_ratio() -> None:
    """Ours alone, without load: only the limits are there to compare with."""
    found = ratios(results_of(Round(LIMIT, {"carpool": batch(10.0)}), loops=()))
    left = {name for name, value in found.items() if value is not None}
    assert left == {"vs_limit", "vs_products"}
    assert found["vs_limit"] is not None
    assert found["vs_limit"] < 1


def test_a_peer_that_answers_nothing_in_time_gives_no_ratio() -> None:
    """Dividing by a goodput of nothing would say nothing."""
    one = Round(LIMIT, {}, {"carpool": load(0.05), "vllm": load(0.5)})
    assert ratios(results_of(one))["goodput_vs_vllm"] is None


def test_the_tables_have_every_engine(results: Results) -> None:
    """One for the batch, one a load, which static batching can't join, and one for the limits."""
    assert [len(table.rows) for table in tables(results)] == [7, 6, 6, 5]


def test_the_section_tells_ratios_and_figures(results: Results) -> None:
    """Markdown tables with every engine, and dashes where a load was not reached."""
    text = section(results, ratios(results), "A machine.")
    assert text.startswith("A machine. Medians of 3 interleaved rounds.")
    assert "| all at once: output tokens/s over vLLM's | 1.20 |" in text
    assert text.count("| vLLM") == 3
    assert "| \N{EN DASH} |" in text


def test_the_picture_has_three_panels(results: Results) -> None:
    """Goodput, gaps, and the time to the first token."""
    assert len(picture(results).panels) == 3
