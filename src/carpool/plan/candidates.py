"""The setups that a search compares: how large batches may be, and the knobs beside their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from carpool.core.budget import Budget
from carpool.core.collate import round_up
from carpool.core.policy import Policy
from carpool.errors import ConfigError
from carpool.plan.predict import fitted
from carpool.plan.scatter import Scatter
from carpool.plan.setup import Setup
from carpool.plan.subject import Subject
from carpool.plan.what_if import coarse_buckets
from carpool.signals.objective import Objective
from carpool.units import format_bytes

if TYPE_CHECKING:
    from carpool.cost.memory import MemoryFit

Cap = Literal["measured", "memory", "asked"]

# Waits that are tried, as shares of the time of a single item.
_WAITS = (0.2, 1.0)
# With a budget of tokens, so many times as many short items may go together.
_MORE_SHORT = 4
# What twice the batch has to add to what is carried, for larger ones to be worth a thought.
_GAINS = 0.03


@dataclass(frozen=True)
class Candidates:
    """The setups worth a look for a model and the lengths that arrive.

    Args:
        subject: The measured model.
        lengths: Lengths that arrive, ascending, as often as they do; at least one.
        max_batch_size: Most items in a batch that the user allows; None for no limit.
        memory_limit_bytes: Most memory that the user allows a batch; None for what the profile says.
        objectives: Latencies that are promised: every setup's policy has them, as a server's has.

    Raises:
        ConfigError: Memory was limited but not measured, or not even one item fits.
    """

    subject: Subject
    lengths: Sequence[int]
    max_batch_size: int | None = None
    memory_limit_bytes: int | None = None
    objectives: Sequence[Objective] = ()

    def __post_init__(self) -> None:
        if self.memory_limit_bytes is not None and self.subject.cost.memory is None:
            raise ConfigError(
                f"memory is limited to {format_bytes(self.memory_limit_bytes)}, but what a batch needs was not "
                "measured: profile again with memory probes, or leave the limit out"
            )
        if self._safe_bytes is not None and self._fits(self.longest) < 1:
            raise ConfigError(
                f"not even one item of {self.longest} tokens fits into {format_bytes(self._safe_bytes)}: it needs "
                f"{format_bytes(self._memory.memory_bytes(1, self.longest))}; allow more memory, or shorter items"
            )

    # ------------------------------------------------------------------------------------------------ limits

    @cached_property
    def _budget(self) -> Budget:
        return Budget(fitted(Policy(), self.subject), self.subject.cost.clipped())

    @cached_property
    def typical(self) -> int:
        """What an item of the middle length is padded to."""
        return self._budget.padded_length(self.lengths[len(self.lengths) // 2])

    @cached_property
    def longest(self) -> int:
        """What the longest item is padded to."""
        return self._budget.padded_length(self.lengths[-1])

    @cached_property
    def _shortest(self) -> int:
        return self._budget.padded_length(self.lengths[0])

    @property
    def _memory(self) -> MemoryFit:
        assert self.subject.cost.memory is not None
        return self.subject.cost.memory

    @cached_property
    def _safe_bytes(self) -> int | None:
        """The limit of memory, less what the fit was wrong by at its worst; None where nothing limits."""
        given = self.subject.memory_limit_bytes if self.memory_limit_bytes is None else self.memory_limit_bytes
        return None if given is None or self.subject.cost.memory is None else int(given / self._memory.worst_low)

    def _fits(self, padded: int) -> int:
        """Return the most items of a padded length that fit into memory."""
        assert self._safe_bytes is not None
        per_item = self._memory.m1_bytes + self._memory.m2_bytes * padded
        spare = self._safe_bytes - self._memory.m0_bytes
        return int(spare / per_item) if spare >= per_item > 0 else 10**9 if spare >= per_item else 0

    def measured(self, padded: int) -> int:
        """Return the largest batch that was measured at a length; beyond the measured lengths, at the nearest."""
        cost = self.subject.cost
        return cost.largest_batch_at(min(max(padded, cost.lengths[0]), cost.lengths[-1]))

    def largest(self, padded: int) -> tuple[int, Cap]:
        """Return the largest batch at a length, and what sets the limit."""
        limits: dict[Cap, int] = {"measured": self.measured(padded)}
        if self._safe_bytes is not None:
            limits["memory"] = self._fits(padded)
        if self.max_batch_size is not None:
            limits["asked"] = self.max_batch_size
        name = min(limits, key=lambda cap: limits[cap])
        return max(1, limits[name]), name

    def _limited(self, policy: Policy) -> Policy:
        """Return the policy with the limit of memory, where a batch of the longest items could pass it."""
        limit = self._safe_bytes
        if limit is None or self._memory.memory_bytes(policy.max_batch_size, self._longest(policy)) <= limit:
            return replace(policy, memory_limit_bytes=None)
        return replace(policy, memory_limit_bytes=limit)

    def _longest(self, policy: Policy) -> int:
        """Return what the longest item is padded to under a policy."""
        return round_up(self.lengths[-1], fitted(policy, self.subject).length_buckets)

    # ------------------------------------------------------------------------------------------------ setups

    def sizes(self) -> tuple[int, ...]:
        """Return the batch sizes to try: 1, its doublings, the knee, and the largest."""
        largest, _ = self.largest(self.typical)
        doubled = [1 << power for power in range(largest.bit_length())]
        return tuple(sorted({*doubled, min(self.knee, largest), largest}))

    @cached_property
    def knee(self) -> int:
        """The smallest batch with nearly the best throughput, at the typical length."""
        cost = self.subject.cost
        return cost.knee(min(max(self.typical, cost.lengths[0]), cost.lengths[-1]))

    def plain(self, num_workers: int) -> list[Setup]:
        """Return setups that differ in their batch size alone."""
        return [self.of_size(size, num_workers) for size in self.sizes()]

    def of_size(self, size: int, num_workers: int) -> Setup:
        """Return the setup that takes what is there, up to so many items."""
        policy = Policy(max_batch_size=size, objectives_s={one.name: one.latency_s for one in self.objectives})
        return Setup(policy=self._limited(policy), num_workers=num_workers)

    def variants(self, setup: Setup) -> list[Setup]:
        """Return the setup with one knob turned that it leaves alone."""
        if setup.policy.max_batch_size == 1:
            return []
        turned = [*self._waits(setup.policy), *self._token_budgets(setup.policy), *self._length_buckets(setup.policy)]
        return [replace(setup, policy=self._limited(policy)) for policy in turned]

    def _waits(self, policy: Policy) -> Iterator[Policy]:
        if policy.max_wait_s:
            return
        single_s = self.subject.cost.clipped().time_s(1, self.typical)
        for share in _WAITS:
            wait_s = float(f"{share * single_s:.2g}")
            if all(wait_s < one.latency_s for one in self.objectives):
                yield replace(policy, max_wait_s=wait_s)

    def _token_budgets(self, policy: Policy) -> Iterator[Policy]:
        """Bound the tokens of a batch at what it has of typical items, as it is and with more of the short ones."""
        if self._shortest == self.longest or policy.token_budget is not None:
            return
        tokens = max(policy.max_batch_size * self.typical, self._longest(policy))
        yield replace(policy, token_budget=tokens)
        most = min(_MORE_SHORT * policy.max_batch_size, self.largest(self._shortest)[0])
        if most > policy.max_batch_size:
            yield replace(policy, token_budget=tokens, max_batch_size=most)

    def _length_buckets(self, policy: Policy) -> Iterator[Policy]:
        """Pad to fewer lengths than the model does, where the longest item still fits and budgets still hold it."""
        if self.subject.ragged:
            return
        coarse = coarse_buckets(self.lengths, self.subject.length_buckets)
        if policy.length_buckets or len(coarse) <= 1 or coarse == self.subject.length_buckets:
            return
        turned = replace(policy, length_buckets=coarse)
        longest = self._longest(turned)
        fits = self._safe_bytes is None or self._fits(longest) >= 1
        if fits and (policy.token_budget is None or policy.token_budget >= longest):
            yield turned

    # ----------------------------------------------------------------------------------------------- capacity

    def single_s(self, quantile: float) -> float:
        """Return the seconds that items take alone, at a quantile over the lengths that arrive and calls' scatter."""
        cost = self.subject.cost.clipped()
        times_s = [cost.time_s(1, self._budget.padded_length(length)) for length in self.lengths]
        return float(np.quantile(np.multiply.outer(times_s, self.subject.call_spread or (1.0,)), quantile))

    @property
    def still_gains(self) -> bool:
        """Whether full batches of the largest size carry more than those of half of it, so that larger ones might."""
        largest = self.sizes()[-1]
        whole, half = (self.capacity(self.of_size(size, 1)) for size in (largest, max(1, largest // 2)))
        return whole > (1 + _GAINS) * half

    def capacity(self, setup: Setup) -> float:
        """Return about the most items a second that a setup can carry, each batch full and of one length.

        Args:
            setup: The policy and the workers.
        """
        cost = self.subject.cost.clipped()
        budget = Budget(fitted(setup.policy, self.subject), cost)
        item_s: dict[int, float] = {}
        total_s = 0.0
        for length in self.lengths:
            padded = budget.padded_length(length)
            if padded not in item_s:
                item_s[padded] = _cheapest_item_s(budget, padded)
            total_s += item_s[padded]
        return setup.num_workers * len(self.lengths) / (total_s * Scatter.of(self.subject.call_spread).mean)


def _cheapest_item_s(budget: Budget, padded: int) -> float:
    """Return the seconds of an item in the batch size that makes most of them a second."""
    most, _ = budget.most_items(padded)
    sizes = {most, *(1 << power for power in range(most.bit_length()))}
    return min(budget.time_s(size, padded) / size for size in sizes)
