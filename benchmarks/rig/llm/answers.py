"""Whether engines gave plausible tokens: held against what transformers' model, in float32, would have chosen.

Token by token, given the tokens before: bfloat16 chooses another one wherever two are nearly as likely, and from there
on two greedy texts have nothing in common. A fault would show as tokens that the model finds much less likely.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rig.llm.work import Request

NUM_CHECKED = 24
TOKENS_CHECKED = 32
LEAST_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an engine's tokens compare.

    Args:
        share: of its tokens, those that the model in float32 finds the most likely too.
        first: of its first tokens, the same.
        shortfall: the mean difference of logits between the most likely token and the one given.
    """

    share: float
    first: float
    shortfall: float

    @property
    def plausible(self) -> bool:
        """Whether most are the model's own choice."""
        return self.share >= LEAST_SHARE


def agreements(
    directory: Path, requests: Sequence[Request], given: Mapping[str, Sequence[Sequence[int]]]
) -> dict[str, Agreement]:
    """Compare the first tokens of the first requests.

    Args:
        directory: of the model.
        requests: what was asked.
        given: by engine, the tokens of each request.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when transformers is imported
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    known: dict[tuple[int, tuple[int, ...]], list[float]] = {}
    found = {}
    for engine, answers in given.items():
        rows = []
        for number, answer in enumerate(answers[:NUM_CHECKED]):
            tokens = tuple(answer[:TOKENS_CHECKED])
            key = number, tokens
            if key not in known:
                known[key] = shortfalls(model, requests[number]["prompt"], tokens)
            rows.append(known[key])
        found[engine] = _agreement(rows)
    return found


def shortfalls(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """Give for each token how far its logit lies below the largest, given all that comes before; 0 for the largest."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([[*prompt, *tokens[:-1]]])
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :]
        chosen = logits.gather(1, torch.tensor(tokens)[:, None])[:, 0]
        rows: list[float] = (logits.max(dim=1).values - chosen).tolist()
    return rows


def _agreement(rows: Sequence[Sequence[float]]) -> Agreement:
    every = [gap for row in rows for gap in row]
    same = sum(gap == 0 for gap in every) / len(every)
    return Agreement(same, sum(row[0] == 0 for row in rows) / len(rows), sum(every) / len(every))
