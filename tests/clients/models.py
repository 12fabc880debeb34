"""Models that other people's clients are tried with; served by ``carpool serve`` from a repository."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


class Pair:
    """Takes a row of two floats and a whole number, and gives their sum and a word."""

    examples = (
        {"values": np.zeros(2, np.float32), "count": np.zeros(1, np.int64)},
        {"values": np.ones(2, np.float32), "count": np.ones(1, np.int64)},
    )

    def __call__(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Add up each row; negative ones are refused one by one."""
        return [
            {"total": row["values"].sum(keepdims=True) + row["count"].astype(np.float32), "word": "done"}
            for row in batch
        ]

    def check(self, item: dict[str, Any]) -> None:
        """Refuse negative numbers."""
        if np.min(item["values"]) < 0:
            message = "it is negative"
            raise ValueError(message)


def embed(texts: list[str]) -> list[Any]:
    """Turn texts into vectors of three numbers."""
    return [np.array([len(text), text.count("a"), 0.5], np.float32) for text in texts]


embed.examples = ["a text", "another"]  # type: ignore[attr-defined]


def upper(texts: list[str]) -> list[str]:
    """Write texts in capitals."""
    return [text.upper() for text in texts]


upper.examples = ["a text"]  # type: ignore[attr-defined]


class Slow:
    """Takes half a second for rows that are not zero."""

    examples = (np.zeros(1, np.float32),)

    def __call__(self, batch: list[Any]) -> list[Any]:
        """Wait, and give the rows back."""
        if any(row.any() for row in batch):
            time.sleep(0.5)
        return batch
