"""Two processes that train together measure the noise scale that one does which has all their micro-batches."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from carpool.train.accumulate import Accumulator
from carpool.train.batch_plan import BatchPlan
from carpool.train.noise.listener import NoiseScale
from tests.train.noise.two_ranks import NUM_RANKS, ONE_EACH, SIZES, micro_batches, net, summed

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[3]

Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Run both processes once, and give what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    files = [folder / f"rank{rank}.pt" for rank in range(NUM_RANKS)]
    commands = [
        [sys.executable, "-W", "error", "-m", "tests.train.noise.two_ranks", str(rank), str(folder / "meet"), str(file)]
        for rank, file in enumerate(files)
    ]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * NUM_RANKS, "\n".join(said)
    return [torch.load(file) for file in files]


def _alone(windows: Sequence[Sequence[Sequence[int]]]) -> Outcome:
    """Measure in one process that has the micro-batches of both ranks."""
    model = net()
    plan = BatchPlan(effective_batch_size=16, micro_batch_size=4)
    accumulator, noise = Accumulator(model, torch.optim.SGD(model.parameters(), lr=0.1), plan=plan), NoiseScale(model)
    accumulator.step([torch.zeros(1, 5, dtype=torch.float64)] * NUM_RANKS, summed)
    accumulator.listeners.append(noise)
    for seed, sizes in enumerate(windows):
        accumulator.step([batch for rank in micro_batches(sizes, seed) for batch in rank], summed)
    found = noise.estimate()
    return {"S": found.S, "G2": found.G2, "num_windows": found.num_windows, "low": found.low, "high": found.high}


@pytest.mark.parametrize(
    ("scenario", "windows"), [("accumulated", SIZES), ("one each", ONE_EACH), ("mixed precision", SIZES)]
)
def test_two_ranks_find_what_one_does(
    ranks: list[Outcome], scenario: str, windows: Sequence[Sequence[Sequence[int]]]
) -> None:
    """With uneven micro-batches, with a rank that has none, without accumulation, and under mixed precision."""
    expected = _alone(windows)
    for rank in ranks:
        assert rank[scenario] == pytest.approx(expected, rel=1e-9)


def test_both_ranks_say_the_same(ranks: list[Outcome]) -> None:
    """To the last bit: what grows the batch by it must grow it on all ranks at once."""
    assert ranks[0]["accumulated"] == ranks[1]["accumulated"]


def test_sharded_parameters_are_refused(ranks: list[Outcome]) -> None:
    """Their gradients pass the hooks by, which is said rather than measured wrongly."""
    for rank in ranks:
        assert "where parameters are sharded (FSDP) they are given theirs in another way" in rank["sharded"]
