"""How many items of a length may run together."""

import math
from dataclasses import dataclass, field, replace

from carpool.core.batch import Reason
from carpool.core.ceiling import Ceiling
from carpool.core.collate import round_up
from carpool.core.cost import CostModel, TimeModel
from carpool.core.item import Item
from carpool.core.objective_cap import ObjectiveCap
from carpool.core.policy import Policy
from carpool.errors import ConfigError, InvalidItem


@dataclass(slots=True)
class Budget:
    """The limits of a batch: items, padded tokens, predicted memory, and what ran out of memory before.

    A ragged batch is held for one of as many items that all have the mean length: it has the same tokens.

    Args:
        policy: the limits as configured.
        cost: predicts time, and memory where the policy limits it.
        cap: bounds the time of a batch by the objective; None for none.

    Raises:
        ConfigError: the policy limits memory, and the cost model does not predict it.
    """

    policy: Policy
    cost: TimeModel
    ceiling: Ceiling = field(default_factory=Ceiling)
    cap: ObjectiveCap | None = None
    _most_in_memory: dict[int, int] = field(default_factory=dict)
    _padded: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.policy.memory_limit_bytes is not None and not isinstance(self.cost, CostModel):
            raise ConfigError(
                f"memory_limit_bytes is {self.policy.memory_limit_bytes}, but the cost model does not predict memory: "
                "give one from a profile, or remove the limit"
            )

    def uncapped(self) -> "Budget":
        """Return the same limits, but for that of the objective."""
        return replace(self, cap=None)

    def padded_length(self, length: int) -> int:
        """Return what a batch whose longest member has `length` tokens is padded to; `length` itself where ragged."""
        padded = self._padded.get(length)
        if padded is None:
            padded = length if self.policy.ragged else round_up(length, self.policy.length_buckets)
            self._padded[length] = padded
        return padded

    def padded(self, items: list[Item]) -> int:
        """Return what a batch of these items is padded to; where ragged, their mean length."""
        if self.policy.ragged:
            return max(1, round(sum([item.length for item in items]) / len(items)))
        return self.padded_length(max(item.length for item in items))

    def num_tokens(self, items: list[Item], padded_length: int) -> int:
        """Return how many tokens a batch of these items runs, padding included, but no rows beyond the items."""
        if self.policy.ragged:
            return round_up(sum([item.length for item in items]), self.policy.token_buckets)
        return len(items) * padded_length

    def size(self, num_items: int) -> int:
        """Return how many rows run for so many items."""
        return num_items if self.policy.ragged else round_up(num_items, self.policy.batch_size_buckets)

    def time_s(self, num_items: int, padded_length: int) -> float:
        """Return the predicted time of so many items, padded rows included."""
        return self.cost.time_s(self.size(num_items), padded_length)

    def check(self, length: int) -> None:
        """Refuse an item that could not run even alone.

        Raises:
            InvalidItem: it has no length, is longer than the token budget or needs more memory than the limit.
        """
        if length < 1:
            raise InvalidItem(f"an item's length is {length}; it must be at least 1: give 1 where lengths mean nothing")
        policy = self.policy
        if policy.token_budget is None and policy.memory_limit_bytes is None:
            return
        rows, padded = self.size(1), round_up(length, policy.length_buckets)
        if policy.token_budget is not None and rows * padded > policy.token_budget:
            raise InvalidItem(
                f"an item of {length} tokens (padded to {rows} x {padded}) can never fit token_budget "
                f"{policy.token_budget}: shorten the item or raise token_budget"
            )
        if policy.memory_limit_bytes is not None and self._memory_bytes(rows, padded) > policy.memory_limit_bytes:
            raise InvalidItem(
                f"an item of {length} tokens needs {self._memory_bytes(rows, padded):.0f} bytes, more than "
                f"memory_limit_bytes {policy.memory_limit_bytes}: shorten the item or raise the limit"
            )

    def most_items(self, padded_length: int) -> tuple[int, Reason]:
        """Return the most items of a padded length that may run together (at least 1), and what sets the limit."""
        most, allowed = self.policy.max_batch_size, self._allowed(padded_length, self.ceiling.tokens)
        return (most, Reason.FULL) if allowed >= most else (max(1, int(allowed)), Reason.BUDGET)

    def most_of(self, items: list[Item]) -> tuple[int, Reason]:
        """Return how many of these items, from the first on, may run together, and what sets the limit.

        Args:
            items: at least one, of which at least one may.
        """
        if not self.policy.ragged:
            return self.most_items(self.padded(items))
        num_tokens, tokens = 0, self._most_tokens()
        for count, item in enumerate(items):
            num_tokens += item.length
            if count >= self.policy.max_batch_size:
                return count, Reason.FULL
            if count and (num_tokens > tokens or not self._fits(count + 1, num_tokens)):
                return count, Reason.BUDGET
        return len(items), Reason.FULL if len(items) >= self.policy.max_batch_size else Reason.BUDGET

    def _most_tokens(self) -> float:
        budget = self.policy.token_budget
        return self.ceiling.tokens if budget is None else min(budget, self.ceiling.tokens)

    def _fits(self, num_items: int, num_tokens: int) -> bool:
        return self._holds(num_items, num_tokens) and self._is_in_time(num_items, num_tokens)

    def _is_in_time(self, num_items: int, num_tokens: int) -> bool:
        """Return whether so many items of so many tokens in all run within what the objective allows."""
        return self.cap is None or self.time_s(num_items, -(-num_tokens // num_items)) <= self.cap.limit_s

    def _holds(self, num_items: int, num_tokens: int) -> bool:
        """Return whether memory is predicted to hold so many items of so many tokens in all."""
        limit = self.policy.memory_limit_bytes
        return limit is None or self._memory_bytes(num_items, -(-num_tokens // num_items)) <= limit

    def _allowed(self, padded_length: int, ceiling_tokens: float) -> float:
        """Return the most items that the limits allow under a ceiling; below 1 where not even one row is within it."""
        allowed: float = self.policy.max_batch_size
        if self.cap is not None:
            allowed = self.cap.most_items(padded_length, self)
        tokens = ceiling_tokens
        if self.policy.token_budget is not None:
            tokens = min(tokens, self.policy.token_budget)
        if tokens < math.inf:
            allowed = min(allowed, self._rows(tokens // padded_length))
        if self.policy.memory_limit_bytes is not None:
            allowed = min(allowed, self._fits_in_memory(padded_length))
        return allowed

    def most_within(self, slack_s: float, padded_length: int, most: int) -> int:
        """Return the most items, from 1 to `most`, whose predicted time is within `slack_s`."""
        if self.time_s(most, padded_length) <= slack_s:
            return most
        fits, too_many = 1, most
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if self.time_s(middle, padded_length) <= slack_s else (fits, middle)
        return fits

    def ran_out_of_memory(self, size: int, padded_length: int) -> None:
        """Remember that such a batch did not fit: for a while, half of it is the most.

        A single row that does not fit is its item's own fault, and says nothing of shorter ones.
        """
        if size > 1:
            self.ceiling.ran_out(size * padded_length)

    def ran(self, size: int, padded_length: int) -> None:
        """Take note that such a batch fitted, which counts where it was kept small for having run out of memory."""
        if self.ceiling.tokens == math.inf:
            return
        held = self._allowed(padded_length, self.ceiling.tokens)
        if held <= size and held < self._allowed(padded_length, math.inf):
            self.ceiling.held()

    def _rows(self, allowed: float) -> float:
        """Return the most items whose rows, padded up to an allowed batch size, are no more than `allowed`."""
        buckets = self.policy.batch_size_buckets
        return max((bucket for bucket in buckets if bucket <= allowed), default=1) if buckets else allowed

    def _fits_in_memory(self, padded_length: int) -> int:
        if padded_length not in self._most_in_memory:
            limit = self.policy.memory_limit_bytes or 0
            fits, too_many = 1, self.policy.max_batch_size + 1
            while too_many - fits > 1:
                middle = (fits + too_many) // 2
                ok = self._memory_bytes(self.size(middle), padded_length) <= limit
                fits, too_many = (middle, too_many) if ok else (fits, middle)
            self._most_in_memory[padded_length] = fits
        return self._most_in_memory[padded_length]

    def _memory_bytes(self, size: int, padded_length: int) -> float:
        assert isinstance(self.cost, CostModel)
        return self.cost.memory_bytes(size, padded_length)
