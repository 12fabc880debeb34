"""Two processes under torchrun learn in each host's loop what one process does, and measure the same noise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.integrations.two_ranks import PLAN, SAMPLERS, run, sampled

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
ROOT = Path(__file__).parents[3]
LOOPS = ("hugging_face", "hugging_face_that_does_not_listen", "lightning", "accelerate")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run both processes once, and give what each of them learnt."""
    folder = tmp_path_factory.mktemp("ranks")
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launched, "-m", "tests.train.integrations.two_ranks", str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Do the same in this process."""
    folder, before = tmp_path_factory.mktemp("alone"), Path.cwd()
    os.chdir(folder)
    try:
        return run(PLAN.with_ranks(1), folder)
    finally:
        os.chdir(before)


@pytest.mark.parametrize("name", [*LOOPS, *SAMPLERS])
def test_two_ranks_learn_what_one_does(name: str, ranks: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """Each ends with the same weights as one process, and as the other."""
    for rank in ranks:
        torch.testing.assert_close(rank[name]["weights"], alone[name]["weights"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LOOPS[:3])
def test_two_ranks_measure_the_noise_of_one(name: str, ranks: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """From the micro-batches of both."""
    for rank in ranks:
        assert rank[name]["noise"] == pytest.approx(alone[name]["noise"], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_windows_do_not_depend_on_micro_batches_either(name: str, alone: dict[str, Any]) -> None:
    """Whole windows in one pass learn the same, epoch by epoch."""
    whole = PLAN.with_ranks(1).with_micro_batch(6)
    learnt = sampled(name, whole)
    assert learnt["windows"] == 6
    torch.testing.assert_close(alone[name]["weights"], learnt["weights"], rtol=0, atol=1e-9)
