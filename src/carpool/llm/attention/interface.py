"""What a model's attention is given over to: one object that keeps keys and values in blocks, and looks at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import torch

    from carpool.llm.runner import StepBatch

StepT = TypeVar("StepT")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLayer:
    """One layer's attention, as the model itself called it when it was first tried.

    Args:
        num_heads: heads of the query, H.
        num_kv_heads: heads of keys and values, K; each serves H / K heads of the query.
        key_size: elements of a head's key and query, D.
        value_size: elements of a head's value, E.
        scaling: what products of query and key are multiplied by.
        window: a token sees those less than so many positions before it, itself included; None for all.
        soft_cap: products are bent by `cap tanh(product / cap)`; None where they are not.
    """

    num_heads: int
    num_kv_heads: int
    key_size: int
    value_size: int
    scaling: float
    window: int | None = None
    soft_cap: float | None = None

    @property
    def elements_per_token(self) -> int:
        """Elements that a token keeps in the cache of this layer."""
        return self.num_kv_heads * (self.key_size + self.value_size)


class AttentionBackend(Protocol[StepT]):
    """Keeps the keys and values of all layers, and attends to them.

    It is made from the layers, the number and size of blocks, the device and the type. It raises ConfigError there and
    then, naming it, if a layer has something that it does not compute.

    Attributes:
        cache_bytes: memory that it keeps for keys and values.
    """

    cache_bytes: int

    def prepare(self, batch: StepBatch, num_rows: int) -> StepT:
        """Work out once a step what all layers share.

        Args:
            batch: the step; T tokens.
            num_rows: rows that the layers will be given, at least T: those beyond belong to no sequence. They are
                neither kept nor attended to; their results are finite and of no meaning.
        """
        ...

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, step: StepT
    ) -> torch.Tensor:
        """Keep the step's keys and values, then let each token attend to its sequence's up to itself.

        Args:
            layer: which one.
            query: (rows, H, D), not always contiguous.
            key: (rows, K, D), as the query.
            value: (rows, K, E), as the query.
            step: what `prepare` gave.

        Returns:
            (rows, H, E).
        """
        ...

    def finish(self, step: StepT) -> None:
        """Do what is left once all layers have run; a step that failed on its way is not finished.

        Args:
            step: what `prepare` gave.
        """
