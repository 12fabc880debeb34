"""`carpool profile` of a model that generates, from its words to its files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from carpool.cli.main import main
from carpool.profile.llm_artefact import load_llm_profile
from tests.llm.tiny import save, tiny_model

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

QUICK = ("--batch-sizes", "1,4", "--lengths", "16,64", "--chunks", "8,32", "--budget", "2s", "--memory-limit", "1MiB")


def test_a_generator_is_measured_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sequences, pieces of prompts and both; what is printed, written and said as JSON is the same."""
    target = str(save(tiny_model("llama"), tmp_path / "tiny"))
    out = tmp_path / "out"
    assert main(["profile", target, *QUICK, "--threads", "1", "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document == json.loads((out / "profile.json").read_text())
    found = load_llm_profile(out / "profile.json")
    assert {(point.batch_size, point.context) for point in found.decodes} == {(1, 16), (1, 64), (4, 16), (4, 64)}
    assert {point.chunk for point in found.prefills} == {8, 32}
    assert found.step_cost is not None
    assert found.max_length == 128
    assert found.num_blocks * found.memory.block_bytes <= 1024**2
    assert "a token for each sequence, 16 tokens in the cache of each" in printed.err
    assert {path.name for path in out.iterdir()} >= {"profile.json", "report.html", "decode.png", "prefill.png"}


def test_pieces_of_prompts_of_what_generates_nothing_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to do instead."""
    assert main(["profile", "demo:null", "--chunks", "32", "--out", str(tmp_path)]) == 2
    assert "--chunks are of prompts, and demo:null generates nothing" in " ".join(capsys.readouterr().err.split())
