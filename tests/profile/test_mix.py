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

    return MixRunner(run=run, padded_length=lambda length: length, clock=time)


def test_sorting_gains_what_padding_wastes() -> None:
    """Of pairs of 8 and 64 tokens, 44 % is padding by arrival and none sorted: 1.78 times the rate."""
    point = runner(VirtualTime()).measure(MIX, 4, until=1e9, predict=PerToken())
    assert point is not None
    assert point.arrival_padding_waste == pytest.approx(1 - 72 / 128)
    assert point.sorted_padding_waste == 0.0
    assert point.gain == pytest.approx(128 / 72)
    assert point.predicted_error_pct == pytest.approx(0.0, abs=1e-9)


def test_fewer_items_are_run_where_time_is_short() -> None:
    """The mix is halved until it fits, and left out where less than two batches would be run."""
    time = VirtualTime()
    short = runner(time).measure(MIX, 4, until=10.0, predict=PerToken())
    assert short is not None
    assert short.num_items < len(MIX)
    assert time.now <= 10.0
    assert runner(VirtualTime()).measure(MIX, 32, until=0.1, predict=PerToken()) is None


def test_model_that_fails_on_a_mix_gives_no_point() -> None:
    """A failure here takes nothing else with it."""
    assert runner(VirtualTime(), failing=True).measure(MIX, 4, until=1e9, predict=None) is None
