"""Two processes whose items depend on each other learn what one does from all of them."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.exact_ranks import NUM_RANKS, pairs, share
from tests.train.images import Classifier, apart, loss_of
from tests.train.pairs import Pair, contrast, encoders_of, gradients_of

ROOT = Path(__file__).parents[2]
EXACT = 1e-12

Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Outcome]:
    """Run both processes once, and give what each of them saw."""
    folder = tmp_path_factory.mktemp("ranks")
    files = [folder / f"rank{rank}.pt" for rank in range(NUM_RANKS)]
    commands = [
        [sys.executable, "-W", "error", "-m", "tests.train.exact_ranks", str(rank), str(folder / "meet"), str(file)]
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


def of_one_process(micro_batches: list[Pair]) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss and the gradients in plain PyTorch, from one batch of all pairs."""
    encoders = encoders_of()
    queries, texts = (torch.cat(each) for each in zip(*micro_batches, strict=True))
    loss = contrast(encoders[0](queries), encoders[1](texts))
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), gradients_of(*encoders)


def test_batch_norm_sees_all_ranks(ranks: list[Outcome]) -> None:
    """Weights and running statistics are those of whole batches, also where a rank has no micro-batch."""
    model = Classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for micro_batches in (share(0) + share(1), share(0)):
        images, labels = (torch.cat(each) for each in zip(*micro_batches, strict=True))
        optimizer.zero_grad()
        (loss_of(model, (images, labels)) / len(labels)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    expected = copy.deepcopy(model.state_dict())
    for rank in ranks:
        assert apart(rank["exact windows"], expected) < 1e-10


@pytest.mark.parametrize(
    ("scenario", "micro_batches"), [("cached", pairs(0) + pairs(1)), ("sharded", pairs(0) + pairs(0))]
)
def test_all_ranks_pairs_are_negatives(ranks: list[Outcome], scenario: str, micro_batches: list[Pair]) -> None:
    """The loss and its gradient are those of one batch, for replicated encoders and for sharded ones."""
    loss, gradients = of_one_process(micro_batches)
    for rank in ranks:
        assert abs(rank[scenario]["loss"] - loss) < EXACT
        assert float((rank[scenario]["gradients"] - gradients).abs().max()) < EXACT


def test_a_wrapped_encoder_may_embed_both_inputs(ranks: list[Outcome]) -> None:
    """Its gradients are exchanged once, after the last of all its passes."""
    encoder = encoders_of()[0]
    queries = torch.cat([queries for queries, _ in pairs(0) + pairs(1)])
    contrast(encoder(queries), encoder(queries + 1)).backward()  # type: ignore[no-untyped-call]
    for rank in ranks:
        assert float((rank["shared"]["gradients"] - gradients_of(encoder)).abs().max()) < EXACT


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("nothing on rank 1", "the window of rank 1 holds no micro-batch: give at least one on each rank"),
        ("too few inputs on rank 1", "a micro-batch of rank 1 has 1 inputs, and there are 2 encoders"),
        ("other numbers of passes", "as many passes on each: cut the window alike on all"),
        ("not wrapped", "encoder 1, a Sequential, learns on several ranks, and does not average their gradients"),
        ("other shapes", "the ranks' embeddings differ in shape or type"),
    ],
)
def test_all_ranks_are_told_what_cannot_be(ranks: list[Outcome], scenario: str, message: str) -> None:
    """Where one rank has what cannot be, all raise the same error, and none waits for the others."""
    for rank in ranks:
        assert message in rank[scenario]
