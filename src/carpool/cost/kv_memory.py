"""Memory of an LLM: its weights, and the keys and values of every token that is being worked on."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.errors import ConfigError
from carpool.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KvMemory:
    """What an engine's memory is made of.

    Args:
        weights_bytes: The weights.
        block_bytes: Keys and values of a block, of all layers together.
        block_size: Tokens in a block.

    >>> memory = KvMemory(weights_bytes=269_000_000, block_bytes=368_640, block_size=16)
    >>> memory.token_bytes, memory.blocks_within(1_000_000_000), memory.tokens_within(1_000_000_000)
    (23040.0, 1982, 31712)
    """

    weights_bytes: int
    block_bytes: int
    block_size: int

    @property
    def token_bytes(self) -> float:
        """Keys and values of one token."""
        return self.block_bytes / self.block_size

    def blocks_within(self, limit_bytes: float) -> int:
        """Return how many blocks fit beside the weights; 0 where not even one does."""
        return max(0, int((limit_bytes - self.weights_bytes) // self.block_bytes))

    def tokens_within(self, limit_bytes: float) -> int:
        """Return how many tokens' keys and values fit beside the weights."""
        return self.blocks_within(limit_bytes) * self.block_size

    def require_blocks(self, limit_bytes: float) -> int:
        """Return how many blocks fit beside the weights.

        Raises:
            ConfigError: Not even one; names what is needed and what there is.
        """
        blocks = self.blocks_within(limit_bytes)
        if not blocks:
            given, weights = format_bytes(limit_bytes), format_bytes(self.weights_bytes)
            raise ConfigError(
                f"{given} of memory hold no keys and values beside {weights} of weights: give at least "
                f"{format_bytes(self.memory_bytes(1))}"
            )
        return blocks

    def memory_bytes(self, num_blocks: int) -> int:
        """Return what the weights and so many blocks need."""
        return self.weights_bytes + num_blocks * self.block_bytes
