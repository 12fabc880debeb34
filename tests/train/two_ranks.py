"""One of two processes that train together: runs every scenario, and saves what came of each.

python -m tests.train.two_ranks RANK MEETING_POINT RESULTS
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from carpool.errors import ConfigError
from carpool.train import Accumulator, BatchPlan
from carpool.train.setup import count_items
from tests.train.texts import LanguageModel, Texts, count_labels, mean_loss, summed_loss, texts_of, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from carpool.train import WindowResult, WindowStart

NUM_RANKS = 2
PLAN = BatchPlan(effective_batch_size=24, micro_batch_size=4, num_ranks=NUM_RANKS)

# Of each window and rank: the labels of each text of each micro-batch. Ranks hold different numbers of everything, some
# micro-batches have no label or no text, and the data ends on one rank before it does on the other.
WINDOWS: tuple[tuple[list[list[int]], list[list[int]]], ...] = (
    ([[6, 1], [0, 0], [2]], [[3], [4, 4, 4], [1]]),
    ([[1], [2, 5], [3]], [[], [5, 1], [0]]),
    ([[4, 4], [6], [1, 2]], [[0, 0], [0], [0]]),
    ([[2, 1]], []),
)


def whole(number: int) -> Texts:
    """Give all texts of a window."""
    ranks = WINDOWS[number]
    return texts_of([labels for micro_batches in ranks for texts in micro_batches for labels in texts], seed=number)


def share(number: int, rank: int) -> list[Texts]:
    """Give the micro-batches of a rank in a window."""
    ranks = WINDOWS[number]
    sizes = [len(texts) for micro_batches in ranks for texts in micro_batches]
    parts, before = whole(number).split(sizes), len(ranks[0])
    return parts[:before] if rank == 0 else parts[before:]


class Calls:
    """Writes down the kinds of calls that a listener gets."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.sizes: list[tuple[int, ...]] = []

    def before_window(self, start: WindowStart) -> None:
        """Write it down."""
        self.made.append("before")
        self.sizes.append(start.sizes)

    def after_micro_batch(self, index: int, num_valid: int) -> None:
        """Write it down."""
        self.made.append(f"after {index}")

    def after_window(self, result: WindowResult) -> None:
        """Write it down."""
        self.made.append("over")


def parts_of(model: nn.Module, **options: Any) -> Accumulator:
    """Make an accumulator for two ranks."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    given: dict[str, Any] = {"plan": PLAN, "count": count_labels}
    return Accumulator(model, optimizer, **(given | options))


def learn(
    accumulator: Accumulator, model: nn.Module, loader: Sequence[Texts], loss: Callable[..., torch.Tensor] = summed_loss
) -> list[WindowResult]:
    """Train on all windows."""
    results = []
    for window in accumulator.windows(loader):
        for batch in window:
            window.backward(loss(model, batch))
        results.append(window.result)
    return results


def pass_over(rank: int) -> list[Texts]:
    """All micro-batches of a rank."""
    return [batch for number in range(len(WINDOWS)) for batch in share(number, rank)]


def replicated(rank: int, loss: Callable[..., torch.Tensor], **options: Any) -> dict[str, Any]:
    """Train copies of a model, and listen."""
    model = DistributedDataParallel(LanguageModel())
    accumulator = parts_of(model, **options)
    accumulator.listeners.append(calls := Calls())
    results = learn(accumulator, model, pass_over(rank), loss)
    return {"weights": weights_of(model), "results": results, "calls": calls.made, "sizes": calls.sizes}


def sharded(rank: int) -> dict[str, Any]:
    """Train a model of which each rank holds a part."""
    model = LanguageModel()
    fully_shard(model)
    results = learn(parts_of(model, max_norm=0.25), model, pass_over(rank))
    weights = torch.cat([one.full_tensor().detach().flatten() for one in model.parameters()])  # type: ignore[attr-defined]
    return {"weights": weights, "results": results}


def not_finite(rank: int) -> dict[str, Any]:
    """Train under mixed precision, with a number that is none on rank 1 in the second window."""
    model = DistributedDataParallel(LanguageModel())
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    accumulator = parts_of(model, scaler=scaler)

    def loss(model: nn.Module, texts: Texts) -> torch.Tensor:
        bad = rank == 1 and accumulator.num_windows == 1
        return summed_loss(model, texts) + (torch.inf if bad else 0)

    results = learn(accumulator, model, pass_over(rank), loss)
    return {"weights": weights_of(model), "results": results, "scale": scaler.get_scale()}


def left_early(rank: int) -> dict[str, Any]:
    """Leave the first window in the middle, after other numbers of passes on each rank."""
    model = DistributedDataParallel(LanguageModel())
    accumulator = parts_of(model)
    for number, window in enumerate(accumulator.windows(pass_over(rank))):
        for index, batch in enumerate(window):
            window.backward(summed_loss(model, batch))
            if number == 0 and index == rank:
                break
    return {"weights": weights_of(model)}


def failed(rank: int) -> dict[str, Any]:
    """Fail in a window, which is kept with all its windows, and train from the start."""
    model = DistributedDataParallel(LanguageModel())
    accumulator = parts_of(model)
    windows = accumulator.windows(pass_over(rank))
    with suppress(ConfigError):  # what it returns is no scalar
        for texts in (window := next(windows)):
            window.backward(model(texts.words))
    results = learn(accumulator, model, pass_over(rank))
    windows.close()  # type: ignore[attr-defined]
    return {"weights": weights_of(model), "results": results}


def refused(make: Callable[[], object]) -> str:
    """Give the message of what cannot be."""
    try:
        make()
    except ConfigError as error:
        return str(error)
    return "nothing was refused"


def run(rank: int) -> dict[str, Any]:
    """Run all scenarios in one order on both ranks."""
    model = DistributedDataParallel(LanguageModel())
    alone = BatchPlan(effective_batch_size=24, micro_batch_size=4)
    small = BatchPlan(effective_batch_size=6, micro_batch_size=3, num_ranks=2)
    return {
        "summed": replicated(rank, summed_loss),
        "mean": replicated(rank, mean_loss, loss_is="mean"),
        "clipped": replicated(rank, summed_loss, max_norm=0.25),
        "sharded": sharded(rank),
        "not finite": not_finite(rank),
        "left early": left_early(rank),
        "failed": failed(rank),
        "another plan": refused(lambda: parts_of(model, plan=alone)),
        "static": refused(lambda: parts_of(DistributedDataParallel(LanguageModel(), static_graph=True))),
        "nothing to repeat": refused(lambda: parts_of(model).step(share(0, 0) if rank == 0 else [], summed_loss)),
        "too many": refused(lambda: parts_of(model, plan=small, count=count_items).step(share(0, rank), summed_loss)),
    }


def main() -> None:
    """Meet the other process, and run."""
    rank, meeting_point, results = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=NUM_RANKS)
    try:
        torch.save(run(rank), results)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
