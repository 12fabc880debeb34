"""Findings that nobody measured, and a setup small enough to train in no time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from carpool.cost.memory import fit_memory
from carpool.cost.points import MemoryPoint
from carpool.train.autosize.result import MicroBatch, Probe, Throughput
from carpool.train.autosize.throughput import summarise
from carpool.train.planning.step_time import StepTime
from carpool.train.setup import TrainSetup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MIB = 1 << 20
OVERHEAD_S, ITEM_S, UPDATE_S = 0.010, 0.001, 0.004
SIZES = (1, 4, 16, 64)


def throughput(sizes: Sequence[int] = SIZES, *, overhead_s: float = OVERHEAD_S) -> Throughput:
    """Passes of 10 ms and 1 ms an item, updates of 4 ms."""
    passes = tuple((size, (overhead_s + ITEM_S * size,) * 3) for size in sizes)
    return summarise(passes, (UPDATE_S,) * 3, measured_on={"device": "cpu"})


def step_time() -> StepTime:
    """The same as the time of a step."""
    return StepTime.of(throughput())


def micro_batch(size: int = 64) -> MicroBatch:
    """Up to 64 items fit: 100 MiB and 1 MiB an item, within 164 MiB."""
    probes = tuple(Probe(size=one, outcome="fits", peak_bytes=(100 + one) * MIB) for one in (1, 2, 32, size))
    failed = Probe(size=size + 1, outcome="does not fit", reason="passed the limit")
    points = [MemoryPoint(batch_size=one.size, peak_bytes=one.peak_bytes or 0) for one in probes]
    return MicroBatch(
        size=size,
        peak_bytes=(100 + size) * MIB,
        limit_bytes=(100 + size) * MIB,
        limit_source="as asked for",
        too_large=size + 1,
        exact_within=0.0,
        probes=(*probes, failed),
        memory=fit_memory(points),
        throughput=None,
        not_timed="",
        num_items=1000,
        usual_bytes=None,
        device="cpu",
        measure="peak of the process",
    )


def setup(num_items: int = 96, *, base_batch_size: int | None = 8, **changes: object) -> TrainSetup:
    """A line to fit to noisy points: items are pairs of an input and what belongs to it."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(num_items, 3, generator=generator)
    wanted = inputs @ torch.tensor([1.0, -2.0, 0.5]) + 0.5 * torch.randn(num_items, generator=generator)
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    order = torch.Generator().manual_seed(1)

    def loader(size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for chosen in torch.split(torch.randperm(num_items, generator=order), size):
            yield inputs[chosen], wanted[chosen]

    def loss(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        summed: torch.Tensor = (model(batch[0])[:, 0] - batch[1]).square().sum()
        return summed

    @torch.no_grad()
    def validate(model: nn.Module) -> float:
        return float(loss(model, (inputs, wanted))) / num_items

    values: dict[str, object] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.02),
        "loss": loss,
        "loader": loader,
        "num_items": num_items,
        "validate": validate,
        "base_batch_size": base_batch_size,
    }
    return TrainSetup(**(values | changes))  # type: ignore[arg-type]
