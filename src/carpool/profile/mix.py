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

from carpool.errors import CarpoolError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carpool.core.cost import TimeModel
    from carpool.models.model import Admitted

MOST_ROUNDS, FEWEST_ROUNDS = 5, 2


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
        clock: Seconds from any origin.
    """

    run: Callable[[list[Any]], float]
    padded_length: Callable[[int], int]
    clock: Callable[[], float]

    def measure(
        self, mix: Sequence[Admitted], batch_size: int, *, until: float, predict: TimeModel | None
    ) -> MixPoint | None:
        """Run the mix in both orders, in turns; None where the model fails or time is short.

        Args:
            mix: The items; so many of them are run as the time allows.
            batch_size: Items in a batch.
            until: When to stop, on the clock.
            predict: The cost model, for every shape.
        """
        mix = self._affordable(mix, batch_size, until - self.clock(), predict)
        if not mix:
            return None
        orders = (batches(mix, batch_size), batches(sorted(mix, key=lambda one: one.length), batch_size))
        start = self.clock()
        try:
            # The first round warms up: every new shape is slow the first time.
            rounds = [self._round(orders)]
            each_s = self.clock() - start
            while len(rounds) <= MOST_ROUNDS and self.clock() + each_s <= until:
                rounds.append(self._round(orders))
        except CarpoolError:
            return None
        if len(rounds) < 1 + FEWEST_ROUNDS:
            return None
        times_s = tuple(map(median, zip(*rounds[1:], strict=True)))
        return replace(self._point(mix, batch_size, orders, times_s, predict), num_rounds=len(rounds) - 1)

    def _affordable(
        self, mix: Sequence[Admitted], batch_size: int, left_s: float, predict: TimeModel | None
    ) -> Sequence[Admitted]:
        """Halve the mix until warming up and the fewest rounds fit; nothing where less than two batches are left."""
        while predict is not None and len(mix) >= 2 * batch_size:
            # The order of arrival is the dearer of the two, and every new shape costs more the first time.
            needed_s = sum(self._predicted(batch, predict) for batch in batches(mix, batch_size))
            if 2.0 * needed_s * (FEWEST_ROUNDS + 2) <= left_s:
                return mix
            mix = mix[: len(mix) // 2]
        return mix if predict is None else []

    def _round(self, orders: Iterable[list[list[Admitted]]]) -> tuple[float, ...]:
        return tuple(sum(self.run([one.payload for one in batch]) for batch in order) for order in orders)

    def _point(
        self,
        mix: Sequence[Admitted],
        batch_size: int,
        orders: tuple[list[list[Admitted]], ...],
        times_s: tuple[float, ...],
        predict: TimeModel | None,
    ) -> MixPoint:
        errors = [
            100.0 * abs(sum(self._predicted(batch, predict) for batch in order) / time_s - 1.0)
            for order, time_s in zip(orders, times_s, strict=True)
            if predict is not None
        ]
        return MixPoint(
            batch_size=batch_size,
            num_items=len(mix),
            arrival_items_per_s=len(mix) / times_s[0],
            sorted_items_per_s=len(mix) / times_s[1],
            arrival_padding_waste=self._waste(orders[0]),
            sorted_padding_waste=self._waste(orders[1]),
            predicted_error_pct=max(errors, default=None),
        )

    def _longest(self, batch: list[Admitted]) -> int:
        return self.padded_length(max(one.length for one in batch))

    def _predicted(self, batch: list[Admitted], predict: TimeModel) -> float:
        return predict.time_s(len(batch), self._longest(batch))

    def _waste(self, order: list[list[Admitted]]) -> float:
        real = sum(one.length for batch in order for one in batch)
        return 1.0 - real / sum(len(batch) * self._longest(batch) for batch in order)


def batches(items: Sequence[Admitted], batch_size: int) -> list[list[Admitted]]:
    """Cut items into batches, in their order; the last may be smaller."""
    return [list(items[start : start + batch_size]) for start in range(0, len(items), batch_size)]
