"""Mixed lengths in order of arrival and sorted, in virtual time."""

from dataclasses import dataclass
from typing import Any

import pytest

from carpool.errors import ModelError
from carpool.models.model import Admitted
from carpool.profile.mix import MixRunner
from tests.profile.virtual import VirtualTime

# Long and short by turns: the worst order there is for padding.
MIX = [Admitted([0] * length, length) for length in (8, 64) * 32]


@dataclass(frozen=True, slots=True)
class PerToken:
    """One ms a padded token."""

    def time_s(self, batch_size: int, length: int) -> float:
        """Return the seconds."""
        return 1e-3 * batch_size * length


def runner(time: VirtualTime, *, failing: bool = False) -> MixRunner:
    """Runs batches in virtual time at one ms a padded token."""

    def run(payloads: list[Any]) -> float:
        if failing:
            raise ModelError("no")
        seconds = PerToken().time_s(len(payloads), max(map(len, payloads)))
        time.now += seconds
        return seconds

    return MixRunner(run=run, padded_length=lambda length: length, clock=time, predict=PerToken())


def test_sorting_gains_what_padding_wastes() -> None:
    """Of pairs of 8 and 64 tokens, 44 % is padding by arrival and none sorted: 1.78 times the rate."""
    point = runner(VirtualTime()).measure(MIX, 4, until=1e9)
    assert point is not None
    assert point.arrival_padding_waste == pytest.approx(1 - 72 / 128)
    assert point.sorted_padding_waste == 0.0
    assert point.gain == pytest.approx(128 / 72)
    assert point.predicted_error_pct == pytest.approx(0.0, abs=1e-9)


def test_so_many_items_are_run_as_the_time_allows() -> None:
    """The mix is halved until all sizes fit, a size needs two batches, and without time nothing is run."""
    mixed = runner(VirtualTime())
    assert mixed.affordable(MIX, [1, 8, 32], 1e9) == (MIX, [1, 8, 32])
    items, sizes = mixed.affordable(MIX, [1, 8, 32], 20.0)
    assert (len(items), sizes) == (32, [1, 8])
    assert mixed.affordable(MIX, [1, 8, 32], 0.1)[1] == []


def test_single_items_are_run_in_one_order() -> None:
    """Without batches there is no padding, and sorting changes nothing."""
    time = VirtualTime()
    point = runner(time).measure(MIX[:8], 1, until=0.0)
    assert point is not None
    assert point.gain == 1.0
    assert time.now == pytest.approx(3 * 8 * 0.036)


def test_model_that_fails_on_a_mix_gives_no_point() -> None:
    """A failure here takes nothing else with it."""
    assert runner(VirtualTime(), failing=True).measure(MIX, 4, until=1e9) is None
