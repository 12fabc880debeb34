"""Sequences fed to a runner in pieces, in any mixture, as a scheduler might."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from carpool.llm.loaded import LoadedLM
from carpool.llm.runner import Runner, StepBatch, Want
from carpool.llm.step_batch import block_tables


def loaded(model: Any, *, max_length: int = 128) -> LoadedLM:
    """A model as the runner takes it, without a tokenizer.

    Args:
        model: of transformers.
        max_length: its longest sequence.
    """
    return LoadedLM(
        model=model,
        tokenizer=None,
        chat_template=None,
        special_tokens={},
        eos_ids=frozenset(),
        bos_id=None,
        max_length=max_length,
        vocabulary_size=model.config.vocab_size,
        name=type(model).__name__,
        dtype=str(model.dtype).removeprefix("torch."),
        device="cpu",
        weights_bytes=sum(each.nbytes for each in model.parameters()),
    )


@dataclass(slots=True)
class Fed:
    """A sequence, and what the runner has said of its tokens so far."""

    tokens: list[int]
    blocks: list[int]
    done: int = 0
    said: list[torch.Tensor] = field(default_factory=list)

    @property
    def results(self) -> torch.Tensor:
        """One row a token."""
        return torch.cat(self.said)


def feed(runner: Runner, pieces: list[tuple[Fed, int]], want: Want = "logits") -> None:
    """Run one step with so many tokens of each sequence, and keep what it says of every token.

    Args:
        runner: computes it.
        pieces: sequences and numbers of tokens.
        want: of every token.
    """
    counts = [count for _, count in pieces]
    starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
    spans = [range(fed.done, fed.done + count) for fed, count in pieces]
    batch = StepBatch(
        token_ids=np.array([fed.tokens[p] for (fed, _), span in zip(pieces, spans, strict=True) for p in span]),
        positions=np.array([p for span in spans for p in span], np.int64),
        starts=starts,
        contexts=np.array([span.stop for span in spans], np.int32),
        block_tables=block_tables(
            [fed.blocks[: -(-span.stop // runner.block_size)] for (fed, _), span in zip(pieces, spans, strict=True)]
        ),
        rows=np.arange(starts[-1], dtype=np.int64),
        want=want,
    )
    found = torch.split(runner.run(batch), counts)
    for (fed, count), rows in zip(pieces, found, strict=True):
        fed.said.append(rows.clone())
        fed.done += count


def feed_all(runner: Runner, feds: list[Fed], rng: np.random.Generator, *, most_tokens: int = 9) -> None:
    """Run steps of random mixtures until all tokens are done.

    Args:
        runner: computes them.
        feds: the sequences.
        rng: chooses who takes part in a step, in which order, with how many tokens.
        most_tokens: of a sequence in a step.
    """
    while waiting := [fed for fed in feds if fed.done < len(fed.tokens)]:
        chosen = rng.permutation(len(waiting))[: rng.integers(1, len(waiting) + 1)]
        most = int(rng.choice([1, most_tokens]))
        lefts = [(fed, min(most, len(fed.tokens) - fed.done)) for fed in (waiting[i] for i in chosen)]
        feed(runner, [(fed, int(rng.integers(1, left + 1))) for fed, left in lefts])


def sequences(runner: Runner, lengths: list[int], rng: np.random.Generator, *, vocabulary_size: int) -> list[Fed]:
    """Random sequences, their blocks scattered over the runner's.

    Args:
        runner: whose blocks they get.
        lengths: tokens of each.
        rng: chooses.
        vocabulary_size: V.
    """
    free = rng.permutation(runner.num_blocks).tolist()
    return [
        Fed(
            rng.integers(vocabulary_size, size=length).tolist(),
            [free.pop() for _ in range(-(-length // runner.block_size))],
        )
        for length in lengths
    ]


def single_sequence(fed: Fed, num_tokens: int) -> StepBatch:
    """A step with the first tokens of one sequence, all wanted.

    Args:
        fed: the sequence.
        num_tokens: how many.
    """
    return StepBatch(
        token_ids=np.array(fed.tokens[:num_tokens]),
        positions=np.arange(num_tokens),
        starts=np.array([0, num_tokens], np.int32),
        contexts=np.array([num_tokens], np.int32),
        block_tables=np.array([fed.blocks], np.int32),
        rows=np.arange(num_tokens),
    )
