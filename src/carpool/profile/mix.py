"""What padding costs on items as they come: batches in order of arrival, against batches of similar lengths.

The same items are run in both orders, alternating, so that drift hits both alike. Sorted means: all of them ordered by
length before they are cut into batches, as a server does within what is waiting. Beside the measured time stands what
the cost model, which was fitted to batches of one length each, predicts for these: how well it carries over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from carpool.core.cost import TimeModel
from carpool.errors import CarpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carpool.models.model import Admitted

MOST_ROUNDS, FEWEST_ROUNDS = 5, 2
# What the first round costs, in later ones: every new shape is slow the first time.
FIRST_COSTS = 1.3
NUM_ITEMS = (128, 64, 32, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixPoint:
    """Items of mixed lengths in batches of one size.

    Args:
        batch_size: Items in a batch.
        num_items: Items that were run.
        arrival_items_per_s: In order of arrival.
        sorted_items_per_s: Sorted by length.
        arrival_padding_waste: Share of the tokens that was padding, in order of arrival.
        sorted_padding_waste: Sorted.
        predicted_error_pct: How far the cost model's prediction of both was off, in per cent; None without a model.
        num_rounds: How often both were run.
    """

    batch_size: int
    num_items: int
    arrival_items_per_s: float
    sorted_items_per_s: float
    arrival_padding_waste: float
    sorted_padding_waste: float
    predicted_error_pct: float | None
    num_rounds: int = 0

    @property
    def gain(self) -> float:
        """How many times as fast sorting made it."""
        return self.sorted_items_per_s / self.arrival_items_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class MixRunner:
    """Measures the mix.

    Args:
        run: Runs payloads as one batch and returns the seconds.
        padded_length: What a batch is padded to, given its longest item.
        rounded_total: What a batch's tokens are rounded up to, where it is not padded; None where it is.
        clock: Seconds from any origin.
        predict: The cost model, for every shape; None where there is none.
    """

    run: Callable[[list[Any]], float]
    padded_length: Callable[[int], int]
    rounded_total: Callable[[int], int] | None = None
    clock: Callable[[], float]
    predict: TimeModel | None = None

    def measure(self, mix: Sequence[Admitted], batch_size: int, *, until: float) -> MixPoint | None:
        """Run the mix in both orders, in turns; None where the model fails or time is short.

        Args:
            mix: The items.
            batch_size: Items in a batch; the order means nothing to single ones, which are run in one.
            until: When to stop, on the clock.
        """
        orders = orders_of(mix, batch_size)
        start = self.clock()
        try:
            # The first round warms up: every new shape is slow the first time.
            rounds = [self._round(orders)]
            each_s = self.clock() - start
            while len(rounds) <= MOST_ROUNDS and (len(rounds) <= FEWEST_ROUNDS or self.clock() + each_s <= until):
                rounds.append(self._round(orders))
        except CarpoolError:
            return None
        times_s = [median(times) for times in zip(*rounds[1:], strict=True)]
        return replace(self._point(mix, batch_size, orders, times_s), num_rounds=len(rounds) - 1)

    def affordable(
        self, mix: Sequence[Admitted], batch_sizes: Sequence[int], left_s: float
    ) -> tuple[Sequence[Admitted], list[int]]:
        """Choose so many items, and those batch sizes, that warming up and the fewest rounds fit the time.

        Args:
            mix: All items.
            batch_sizes: Sizes that are wanted; of each there are at least two batches.
            left_s: Seconds.

        Returns:
            The items and the sizes; no size where even the smallest choice does not fit.
        """
        for num_items in NUM_ITEMS:
            chosen = mix[:num_items]
            sizes = [size for size in batch_sizes if 2 * size <= len(chosen)]
            needed_s = sum(self._cost_s(chosen, size) for size in sizes)
            if needed_s * (FEWEST_ROUNDS + FIRST_COSTS) <= left_s:
                return chosen, sizes
        return mix[:0], []

    def _cost_s(self, mix: Sequence[Admitted], batch_size: int) -> float:
        """Predict a round."""
        if self.predict is None:
            return 0.0
        return sum(self._predicted(batch) for order in orders_of(mix, batch_size) for batch in order)

    def _round(self, orders: Iterable[list[list[Admitted]]]) -> list[float]:
        return [sum(self.run([one.payload for one in batch]) for batch in order) for order in orders]

    def _point(
        self,
        mix: Sequence[Admitted],
        batch_size: int,
        orders: Sequence[list[list[Admitted]]],
        times_s: Sequence[float],
    ) -> MixPoint:
        errors = [
            100.0 * abs(sum(map(self._predicted, order)) / time_s - 1.0)
            for order, time_s in zip(orders, times_s, strict=True)
            if self.predict is not None
        ]
        return MixPoint(
            batch_size=batch_size,
            num_items=len(mix),
            arrival_items_per_s=len(mix) / times_s[0],
            sorted_items_per_s=len(mix) / times_s[-1],
            arrival_padding_waste=self._waste(orders[0]),
            sorted_padding_waste=self._waste(orders[-1]),
            predicted_error_pct=max(errors, default=None),
        )

    def _length(self, batch: list[Admitted]) -> int:
        """Return what each item of a batch is held for: of one that is not padded, the mean."""
        if self.rounded_total is not None:
            return max(1, round(sum(one.length for one in batch) / len(batch)))
        return self.padded_length(max(one.length for one in batch))

    def _num_tokens(self, batch: list[Admitted]) -> int:
        if self.rounded_total is not None:
            return self.rounded_total(sum(one.length for one in batch))
        return len(batch) * self._length(batch)

    def _predicted(self, batch: list[Admitted]) -> float:
        assert self.predict is not None, "asked only where there is a model"
        return self.predict.time_s(len(batch), self._length(batch))

    def _waste(self, order: list[list[Admitted]]) -> float:
        real = sum(one.length for batch in order for one in batch)
        return 1.0 - real / sum(self._num_tokens(batch) for batch in order)


def orders_of(mix: Sequence[Admitted], batch_size: int) -> list[list[list[Admitted]]]:
    """Cut items into batches in order of arrival and, where a batch holds more than one, sorted by length."""
    arrival = batches(mix, batch_size)
    return [arrival, batches(sorted(mix, key=lambda one: one.length), batch_size)] if batch_size > 1 else [arrival]


def batches(items: Sequence[Admitted], batch_size: int) -> list[list[Admitted]]:
    """Cut items into batches, in their order; the last may be smaller."""
    return [list(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
