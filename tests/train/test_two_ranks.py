"""Two processes that train together learn what one does, whatever each of them holds."""

from __future__ import annotations

import subprocess
import sys
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch

from carpool.train import WindowResult
from tests.train.texts import LanguageModel, count_labels, largest_difference, mean_loss, weights_of
from tests.train.two_ranks import NUM_RANKS, WINDOWS, whole

ROOT = Path(__file__).parents[2]
EXACT = 1e-12

Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Run both processes once, and give what each of them saw."""
    folder = tmp_path_factory.mktemp("ranks")
    files = [folder / f"rank{rank}.pt" for rank in range(NUM_RANKS)]
    commands = [
        [sys.executable, "-W", "error", "-m", "tests.train.two_ranks", str(rank), str(folder / "meet"), str(file)]
        for rank, file in enumerate(files)
    ]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for command in commands]
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * NUM_RANKS, "\n".join(said)
    with torch.serialization.safe_globals([WindowResult]):
        return [torch.load(file) for file in files]


def train_by_hand(*, max_norm: float | None = None, without: int | None = None) -> tuple[torch.Tensor, list[float]]:
    """Train in plain PyTorch on whole windows, and give the weights and the losses."""
    model = LanguageModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    losses = []
    for number in range(len(WINDOWS)):
        if number == without:
            continue
        optimizer.zero_grad()
        loss = mean_loss(model, whole(number))
        loss.backward()  # type: ignore[no-untyped-call]
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        losses.append(loss.item())
    return weights_of(model), losses


@pytest.mark.parametrize(
    ("scenario", "max_norm"),
    [("summed", None), ("mean", None), ("clipped", 0.25), ("sharded", 0.25), ("failed", None)],
)
def test_two_ranks_learn_what_one_does(ranks: list[Outcome], scenario: str, max_norm: float | None) -> None:
    """In float64, with uneven numbers of labels and micro-batches, empty ones, and a tail that one rank has alone.

    Also after an error in a window, which the caller still holds.
    """
    weights, losses = train_by_hand(max_norm=max_norm)
    for rank in ranks:
        assert largest_difference(rank[scenario]["weights"], weights) < EXACT
        results: list[WindowResult] = rank[scenario]["results"]
        assert [result.loss for result in results] == pytest.approx(losses, rel=EXACT)
        assert [result.num_valid for result in results] == [count_labels(whole(at)) for at in range(len(WINDOWS))]


def test_both_ranks_end_at_the_same_weights(ranks: list[Outcome]) -> None:
    """To the last bit, or they would part."""
    for scenario in ("summed", "mean", "clipped", "sharded", "not finite", "left early", "failed"):
        assert torch.equal(ranks[0][scenario]["weights"], ranks[1][scenario]["weights"])


def test_both_ranks_compute_and_tell_as_often(ranks: list[Outcome]) -> None:
    """A rank that has fewer micro-batches repeats one without weight, so that both take part in the same exchanges."""
    assert ranks[0]["summed"]["calls"] == ranks[1]["summed"]["calls"]
    assert ranks[0]["summed"]["sizes"] == [(7, 2, 0), (1, 7, 3), (8, 6, 3), (3,)]
    assert ranks[1]["summed"]["sizes"] == [(3, 12, 1), (6, 0, 0), (0, 0, 0), (0,)]


def test_results_are_the_same_on_both_ranks(ranks: list[Outcome]) -> None:
    """The loss, the norm and the decision are of all ranks."""
    for scenario in ("summed", "mean", "clipped", "sharded"):
        told = [
            [
                (one.loss, one.grad_norm, one.num_valid, one.skipped, one.num_micro_batches)
                for one in rank[scenario]["results"]
            ]
            for rank in ranks
        ]
        assert told[0] == told[1]


def test_a_window_that_is_not_finite_on_one_rank_is_skipped_on_both(ranks: list[Outcome]) -> None:
    """Even where the gradients are finite: the factor of mixed precision falls on both, and no weight moves."""
    weights, _ = train_by_hand(without=1)
    for rank in ranks:
        results: list[WindowResult] = rank["not finite"]["results"]
        assert [result.skipped for result in results] == [False, True, False, False]
        assert not isfinite(results[1].loss)
        assert rank["not finite"]["scale"] == 4
        assert largest_difference(rank["not finite"]["weights"], weights) < EXACT


def test_a_window_that_both_ranks_leave_is_forgotten(ranks: list[Outcome]) -> None:
    """Wherever each of them was in it."""
    weights, _ = train_by_hand(without=0)
    for rank in ranks:
        assert largest_difference(rank["left early"]["weights"], weights) < EXACT


def test_what_cannot_be_is_refused_on_both_ranks(ranks: list[Outcome]) -> None:
    """Neither waits for the other."""
    for rank in ranks:
        assert rank["another plan"].startswith("the plan has 1 ranks, and 2 train together: use plan.with_ranks(2)")
        assert rank["static"].startswith("DistributedDataParallel with static_graph=True exchanges gradients in every")
        assert rank["nothing to repeat"].startswith("rank 1 has had no micro-batch yet, and nothing to take part")
        assert rank["too many"].startswith(
            "a window holds 10 items, and the plan is effective batch 6 = 1 x 3 on 2 ranks"
        )
