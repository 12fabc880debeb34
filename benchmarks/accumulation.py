"""What accumulating gradients costs besides the passes through the model: Carpool, Accelerate, Lightning, a plain loop.

A window of 4 micro-batches of 8 texts of 128 tokens, through a transformer of 4 layers and 256 channels, with clipping
and AdamW: some hundred milliseconds of matrix products on two cores. What a library adds is the counting of items, the
scaling of losses, a norm of the gradient, hooks and callbacks: microseconds to milliseconds a window, which no batch
size makes larger. The plain loop is what one writes by hand: backward of each loss over the window's tokens, clip,
step.

All contenders run in one process on the same model, data and threads, a block of windows each, round after round, each
round in another order; a block is held against the plain loop's of its own round, and the upper end of the ratio's 95 %
interval (Student's, over rounds) is told. Carpool also says how long it spent in its own code.

    python benchmarks/accumulation.py [--rounds 12] [--windows 6]
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import statistics
import time
import warnings
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from rig.about import machine
from torch import nn
from torch.utils.data import DataLoader

from carpool.train import Accumulator, BatchPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Block = Callable[[int], float]
    """Trains so many windows; returns its seconds."""

VOCABULARY, LENGTH, CHANNELS, LAYERS = 256, 128, 256, 4
MICRO_BATCH, STEPS = 8, 4
MAX_NORM = 1.0
RATE = 1e-4
T_975 = {6: 2.571, 8: 2.365, 10: 2.262, 12: 2.201, 16: 2.131, 24: 2.069}  # by rounds


class SmallLM(nn.Module):
    """A causal transformer; returns the logits of each token's successor."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, CHANNELS)
        layer = nn.TransformerEncoderLayer(CHANNELS, 4, 4 * CHANNELS, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.out = nn.Linear(CHANNELS, VOCABULARY)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Give (B, T, V) for (B, T)."""
        hidden: torch.Tensor = self.out(self.layers(self.embed(tokens), mask=self.mask, is_causal=True))
        return hidden


def loss_of(model: nn.Module, tokens: torch.Tensor, reduction: str) -> torch.Tensor:
    """The cross-entropy of all tokens but the first."""
    logits = model(tokens)[:, :-1]
    return nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1), reduction=reduction)


def made() -> tuple[SmallLM, torch.optim.Optimizer]:
    """The same model for everyone, and its optimiser."""
    torch.manual_seed(0)
    model = SmallLM()
    return model, torch.optim.AdamW(model.parameters(), lr=RATE)


def batches() -> Iterator[torch.Tensor]:
    """Micro-batches without end."""
    generator = torch.Generator().manual_seed(1)
    return cycle(list(torch.randint(VOCABULARY, (16, MICRO_BATCH, LENGTH), generator=generator)))


def num_tokens(tokens: torch.Tensor) -> int:
    """Tokens that have a successor to learn."""
    return tokens.shape[0] * (LENGTH - 1)


def plain() -> Block:
    """What one writes by hand."""
    model, optimizer = made()
    data = batches()

    def block(num_windows: int) -> float:
        began_at = time.perf_counter()
        for _ in range(num_windows):
            window = list(islice(data, STEPS))
            total = sum(map(num_tokens, window))
            for tokens in window:
                (loss_of(model, tokens, "sum") / total).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - began_at

    return block


class Carpool:
    """Carpool's accumulator, and the share of the time that it says it took itself."""

    def __init__(self) -> None:
        self.model, optimizer = made()
        plan = BatchPlan(effective_batch_size=MICRO_BATCH * STEPS, micro_batch_size=MICRO_BATCH)
        self._accumulator = Accumulator(self.model, optimizer, plan=plan, count=num_tokens, max_norm=MAX_NORM)
        self._data = batches()
        self.own_s = self.all_s = 0.0

    def __call__(self, num_windows: int) -> float:
        """Train a block."""
        began_at = time.perf_counter()
        for window in self._accumulator.windows(islice(self._data, num_windows * STEPS)):
            for tokens in window:
                window.backward(loss_of(self.model, tokens, "sum"))
            self.own_s += window.result.overhead_s
        took_s = time.perf_counter() - began_at
        self.all_s += took_s
        return took_s


def accelerate() -> Block:
    """Hugging Face Accelerate, as its guide to gradient accumulation has it."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=STEPS)
    model, optimizer = accelerator.prepare(*made())
    data = batches()

    def block(num_windows: int) -> float:
        began_at = time.perf_counter()
        for tokens in islice(data, num_windows * STEPS):
            with accelerator.accumulate(model):
                accelerator.backward(loss_of(model, tokens, "mean"))
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), MAX_NORM)
                optimizer.step()
                optimizer.zero_grad()
        return time.perf_counter() - began_at

    return block


def lightning() -> Block:
    """Lightning's Trainer, with nothing switched on that is not needed; its own start is not counted."""
    from lightning import LightningModule, Trainer

    class Module(LightningModule):
        """The model, as Lightning wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.model, self.made = made()
            self.began_at = self.ended_at = 0.0

        def training_step(self, tokens: torch.Tensor, _: int) -> torch.Tensor:
            """Give the loss."""
            return loss_of(self.model, tokens, "mean")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            """Give the optimiser."""
            return self.made

        def on_train_epoch_start(self) -> None:
            """Look at the clock."""
            self.began_at = time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            """Look at the clock."""
            self.ended_at = time.perf_counter()

    module, data = Module(), batches()

    def block(num_windows: int) -> float:
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            accumulate_grad_batches=STEPS,
            gradient_clip_val=MAX_NORM,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(list(islice(data, num_windows * STEPS)), batch_size=None))  # type: ignore[arg-type]
        return module.ended_at - module.began_at

    return block


def upper(ratios: list[float]) -> float:
    """The upper end of the 95 % interval of the mean ratio."""
    known = max(size for size in T_975 if size <= len(ratios))
    return statistics.mean(ratios) + T_975[known] * statistics.stdev(ratios) / math.sqrt(len(ratios))


def measure(num_rounds: int, num_windows: int) -> tuple[dict[str, list[float]], float]:
    """Seconds a window of each contender, round by round, and the share that Carpool took for itself."""
    ours = Carpool()
    contenders: dict[str, Block] = {
        "plain loop": plain(),
        "Carpool": ours,
        "Accelerate": accelerate(),
        "Lightning": lightning(),
    }
    for block in contenders.values():
        block(2)
    ours.own_s = ours.all_s = 0.0
    found: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(num_rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(contenders[name](num_windows) / num_windows)
    return found, ours.own_s / ours.all_s


def main() -> None:
    """Measure, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12, choices=sorted(T_975))
    parser.add_argument("--windows", type=int, default=6, help="of a block")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)  # Lightning says a lot
    found, own_share = measure(given.rounds, given.windows)
    table = Table("contender", "ms a window", "over the plain loop (%)", "at most (%, 95 %)", box=None)
    figures: dict[str, Any] = {"own_code_pct": round(100 * own_share, 3)}
    for name, seconds in found.items():
        ratios = [one / plain_s - 1 for one, plain_s in zip(seconds, found["plain loop"], strict=True)]
        mean, most = 100 * statistics.mean(ratios), 100 * upper(ratios)
        table.add_row(name, f"{1e3 * statistics.median(seconds):.1f}", f"{mean:+.2f}", f"{most:+.2f}")
        if name != "plain loop":
            figures[name.lower()] = {"overhead_pct": round(mean, 2), "upper_pct": round(most, 2)}
    Console().print(table)
    print(json.dumps(figures | {"machine": machine()}))


if __name__ == "__main__":
    main()
