"""A trial from the single client to the last window, on a site that is simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from carpool.core.policy import Policy
from carpool.plan.setup import Setup
from carpool.report.progress import SilentProgress
from carpool.signals.objective import Objective
from carpool.verify.measured import measured_figures
from carpool.verify.trial import Trial, TrialOptions
from tests.plan.plans import subject, workload
from tests.verify.simulated import SimulatedSite

SETUP = Setup(policy=Policy(max_batch_size=8))


class Counting(SilentProgress):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.done = 0.0
        self.notes: list[str] = []

    def advance(self, num: float = 1) -> None:
        """Count."""
        self.done += num

    def note(self, text: str) -> None:
        """Keep."""
        self.notes.append(text)


def trial(site: SimulatedSite, **options: float) -> Trial:
    """Try the plan on a site, in windows of five seconds."""
    return Trial(
        site=site,
        subject=subject(),
        workload=workload(),
        setup=SETUP,
        objectives=(Objective(0.99, 0.1),),
        options=TrialOptions(**{"duration_s": 5.0, **options}),  # type: ignore[arg-type]
        bar=Counting(),
    )


def test_a_faithful_server_does_what_was_predicted() -> None:
    """What a single client learns is all that the prediction lacks; the measured figures lie in their intervals."""
    found = trial(SimulatedSite(subject(), SETUP), num_windows=10).run()
    assert found.alone.transport_s == pytest.approx(0.002)
    assert found.alone.pace == pytest.approx(1.0)
    for name in ("throughput", "mean_batch_size", "utilisation", "p50_s", "p99_s"):
        measured = [measured_figures(one.window, SETUP)[name] for one in found.observed]
        interval = getattr(found.prediction, name)
        assert sum(interval.holds(value) for value in measured) >= 7, name


def test_what_a_single_client_finds_is_predicted_with() -> None:
    """Batches that take it twice as long will take the load so too, unless the profile is to be believed."""
    site = SimulatedSite(subject(), SETUP, pace=2.0)
    found = trial(site).run()
    assert found.alone.pace == found.expected.pace == pytest.approx(2.0)
    as_profiled = trial(site, as_profiled=True).run()
    assert as_profiled.alone.pace == pytest.approx(2.0)
    assert as_profiled.expected.pace == 1.0
    assert found.prediction.compute_s.value > 1.9 * as_profiled.prediction.compute_s.value


def test_calls_that_scatter_upwards_are_not_taken_for_a_slow_pace() -> None:
    """A cost model promises medians: calls whose mean is a quarter more run at the pace of the profile all the same."""
    scattered = replace(subject(), call_spread=(0.5, 1.0, 2.5))
    site = SimulatedSite(subject(), SETUP, pace=1.25)
    found = replace(trial(site), subject=scattered).run()
    assert found.alone.pace == pytest.approx(1.0)


def test_the_single_client_rests_as_often_as_the_plan_leaves_the_server_idle() -> None:
    """This load keeps it busy for about six tenths of the time, and rests between arrivals are of 10 ms on average."""
    site = SimulatedSite(subject(), SETUP)
    found = trial(site).run()
    rests_s = np.array(site.pauses_s)
    assert np.count_nonzero(rests_s) / len(rests_s) == pytest.approx(1 - found.prediction.utilisation.value, abs=0.1)
    assert rests_s[rests_s > 0].mean() == pytest.approx(0.01, rel=0.2)


def test_every_window_has_arrivals_of_its_own() -> None:
    """Drawn by the seed, and others than those that are simulated."""
    site, same, other = (SimulatedSite(subject(), SETUP) for _ in range(3))
    trial(site, num_windows=2, duration_s=1.0).run()
    trial(same, num_windows=2, duration_s=1.0).run()
    trial(other, num_windows=2, duration_s=1.0, seed=1).run()
    firsts = [one.streams[0].times_s.tolist() for one in (site, same, other)]
    assert firsts[0] == firsts[1] != firsts[2]
    assert site.streams[0].times_s.tolist() != site.streams[1].times_s.tolist()
    assert not np.array_equal(site.streams[0].times_s, workload().draw(np.random.default_rng((0, 0)), 1.0).times_s)


def test_a_stop_keeps_the_windows_that_are_whole() -> None:
    """The one that was interrupted is left out."""
    found = trial(SimulatedSite(subject(), SETUP, stops_in=2), num_windows=5, duration_s=1.0).run()
    assert len(found.observed) == 2


def test_a_stop_in_the_first_window_leaves_nothing() -> None:
    """It is passed on."""
    with pytest.raises(KeyboardInterrupt):
        trial(SimulatedSite(subject(), SETUP, stops_in=0), duration_s=1.0).run()


def test_progress_is_told_in_seconds() -> None:
    """As many as the options say in all."""
    one = trial(SimulatedSite(subject(), SETUP), num_windows=2, duration_s=1.0)
    one.run()
    assert isinstance(one.bar, Counting)
    assert one.bar.done == pytest.approx(one.options.total_s)
    assert one.bar.notes == ["one client alone", "predicting", "window 1 of 2", "window 2 of 2"]
