"""What arrives: rates that are kept, lengths that are drawn or replayed, and what is cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.plan.trace import Trace, read_trace
from carpool.plan.workload import Arrivals, Constant, Daily, Gamma, OnOff, Poisson, Replay, Workload

if TYPE_CHECKING:
    from collections.abc import Callable

AZURE = read_trace(Path(__file__).parent.parent / "data" / "azure_conversation.csv")


def rng(seed: int = 0) -> np.random.Generator:
    """A seeded generator."""
    return np.random.default_rng(seed)


def recorded(times: list[float], lengths: list[int] | None, duration_s: float) -> Replay:
    """A trace of these arrivals."""
    return Replay(
        trace=Trace(
            times_s=np.array(times),
            duration_s=duration_s,
            lengths=None if lengths is None else np.array(lengths),
            source="recorded",
        )
    )


def processes(rate: float) -> dict[str, Arrivals]:
    """Each way of arriving, at one mean rate."""
    return {
        "poisson": Poisson(rate=rate),
        "gamma": Gamma(rate=rate, burstiness=3.0),
        "constant": Constant(rate=rate),
        "on-off": OnOff(rate=rate, on_s=0.5, off_s=1.5),
        "daily": Daily(rate=rate, peak_to_mean=1.8, period_s=7.0),
        "trace": Replay(trace=AZURE.window(speed=rate / AZURE.rate)),
    }


@pytest.mark.parametrize("kind", processes(1.0))
def test_the_mean_rate_is_the_one_that_is_told(kind: str) -> None:
    """Over many windows, each a new draw, as many arrive as the rate says, within four standard errors."""
    workload = Workload(arrivals=processes(20.0)[kind])
    counts = np.array([len(workload.draw(rng(seed), 3.3)) for seed in range(2000)])
    assert workload.rate == pytest.approx(20.0)
    assert counts.mean() == pytest.approx(66.0, abs=4 * counts.std() / len(counts) ** 0.5 + 1e-9)


@given(
    kind=st.sampled_from(sorted(processes(1.0))),
    rate=st.floats(0.5, 300),
    window_s=st.floats(0.05, 20),
    lengths=st.lists(st.integers(1, 600), min_size=1, max_size=5),
    seed=st.integers(0, 2**32),
)
def test_a_stream_is_in_order_within_its_window_and_of_the_lengths_given(
    kind: str, rate: float, window_s: float, lengths: list[int], seed: int
) -> None:
    """These are the stream's own conditions; lengths are among those to draw from, or those of the trace."""
    workload = Workload(arrivals=processes(rate)[kind], lengths=tuple(lengths), deadline_s=0.2, priorities={0: 3, 7: 1})
    stream = workload.draw(rng(seed), window_s)
    assert (np.diff(stream.times_s) >= 0).all()
    assert ((stream.times_s >= 0) & (stream.times_s <= window_s)).all()
    assert set(stream.lengths.tolist()) <= set(workload.replayed or lengths)
    assert stream.deadlines_s is not None
    assert (stream.deadlines_s == 0.2).all()
    assert stream.priorities is not None
    assert set(stream.priorities.tolist()) <= {0, 7}


@given(kind=st.sampled_from(sorted(processes(1.0))), factor=st.floats(0.01, 100))
def test_scaling_scales_the_rate_alone(kind: str, factor: float) -> None:
    """The mean rate is so many times as high; a trace keeps its items and is played faster."""
    workload = Workload(arrivals=processes(5.0)[kind], lengths=(3, 4), patience_s=1.0)
    scaled = workload.scaled(factor)
    assert scaled.rate == pytest.approx(5.0 * factor)
    assert (scaled.lengths, scaled.patience_s, scaled.replayed) == (workload.lengths, 1.0, workload.replayed)


@given(window_s=st.floats(0.01, 250), seed=st.integers(0, 999))
def test_a_replayed_window_is_a_piece_of_the_trace_gone_round(window_s: float, seed: int) -> None:
    """From where it begins, arrivals and lengths follow those of the trace written out several times over."""
    replay = Replay(trace=AZURE)
    assert AZURE.lengths is not None
    times, lengths = replay.draw(rng(seed), window_s)
    start_s = rng(seed).uniform(0.0, AZURE.duration_s) if window_s < AZURE.duration_s else 0.0
    rounds = 2 + int(window_s / AZURE.duration_s)
    whole = [(number * AZURE.duration_s + at - start_s) for number in range(rounds) for at in AZURE.times_s.tolist()]
    wanted = [(at, n) for at, n in zip(whole, AZURE.lengths.tolist() * rounds, strict=True) if 0 <= at < window_s]
    assert lengths is not None
    assert times == pytest.approx([at for at, _ in wanted])
    assert lengths.tolist() == [length for _, length in wanted]


def test_a_trace_of_the_windows_own_length_is_that_recording_whatever_the_seed() -> None:
    """So a load that was sent can be simulated as it was sent."""
    cut = AZURE.window(start_s=10.0, duration_s=20.0, speed=2.0)
    for seed in (0, 1):
        times, _ = Replay(trace=cut).draw(rng(seed), 20.0)
        assert times.tolist() == cut.times_s.tolist()


def test_a_trace_without_lengths_draws_them() -> None:
    """Only arrivals are replayed then."""
    stream = Workload(arrivals=recorded([0.0, 0.5], None, 1.0), lengths=(7,)).draw(rng(), 2.0)
    assert stream.times_s.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert stream.lengths.tolist() == [7, 7, 7, 7]


def test_lengths_and_priorities_are_drawn_in_their_shares() -> None:
    """A length that stands twice is twice as likely; shares need not add up to 1."""
    stream = Workload(arrivals=Constant(rate=4000), lengths=(8, 8, 64), priorities={1: 6, 2: 2}).draw(rng(), 10.0)
    assert stream.priorities is not None
    assert (stream.lengths == 8).mean() == pytest.approx(2 / 3, abs=0.01)
    assert (stream.priorities == 1).mean() == pytest.approx(0.75, abs=0.01)


@given(lengths=st.lists(st.integers(1, 100), min_size=1, max_size=30), limit=st.integers(1, 120), own=st.booleans())
def test_clipping_cuts_lengths_to_the_models_and_says_how_many(lengths: list[int], limit: int, *, own: bool) -> None:
    """Every length is the lesser of its own and the limit; nothing is said where nothing was cut."""
    arrivals = recorded([0.0] * len(lengths), lengths, 1.0) if own else Constant(rate=1)
    workload = Workload(arrivals=arrivals, lengths=(1,) if own else tuple(lengths))
    clipped, said = workload.clipped(limit)
    assert (clipped.replayed or clipped.lengths) == tuple(min(length, limit) for length in lengths)
    longer = [length for length in lengths if length > limit]
    assert (f": {len(longer)} of the workload's {len(lengths)} length" in said) == bool(longer)
    assert bool(said) == bool(longer)


def test_what_is_clipped_is_said_in_a_sentence() -> None:
    """With the limit, how many, and how far beyond it they went; a model without a limit cuts nothing."""
    workload = Workload(arrivals=Replay(trace=AZURE))
    said = workload.clipped(256)[1]
    assert said == (
        "The model takes at most 256 tokens: 224 of the workload's 300 lengths (74.7%), up to 4,107, were cut to that."
    )
    assert workload.clipped(None) == (workload, "")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("poisson", "Poisson arrivals at 20/s; lengths of 1 token."),
        ("gamma", "gamma arrivals of burstiness 3 at 20/s; lengths of 1 token."),
        ("constant", "evenly spaced arrivals at 20/s; lengths of 1 token."),
        ("on-off", "bursts of 500 ms every 2 s at 20/s on average; lengths of 1 token."),
        ("daily", "a daily curve of 7 s with a mean of 20/s and a peak of 36/s; lengths of 1 token."),
    ],
)
def test_a_workload_says_what_it_is(kind: str, said: str) -> None:
    """In one sentence, for reports."""
    assert Workload(arrivals=processes(20.0)[kind]).describe() == said


def test_a_replay_says_which_part_of_which_file_and_how_fast() -> None:
    """So do deadlines, patience and priorities."""
    trace = Trace(times_s=np.arange(10.0), duration_s=10.0, lengths=np.arange(1, 11), source="a.csv")
    workload = Workload(
        arrivals=Replay(trace=trace.window(start_s=2.0, speed=2.0)),
        deadline_s=0.1,
        patience_s=2.0,
        priorities={5: 1.0, 0: 1.0},
    )
    assert workload.describe() == (
        "the trace a.csv from 2 s on at 2 times its speed: 8 arrivals in 4 s, 2/s on average; lengths of 3 to 10 "
        "tokens, 6.5 on average; a deadline of 100 ms; clients that leave after 2 s; priorities 0, 5."
    )


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [Poisson, Gamma, Constant, OnOff, Daily])
def test_a_rate_that_is_none_is_refused(kind: type[Poisson], bad: float) -> None:
    """A rate of 0 is a clear error as soon as it is told."""
    with pytest.raises(ConfigError, match=r"a rate of .* is not a finite number above 0: give one such as"):
        kind(rate=bad)


def test_other_values_that_are_none_are_refused() -> None:
    """Shapes, lengths, deadlines, shares, windows, factors and traces, each by name."""
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: Gamma(rate=1, burstiness=0), "a burstiness of 0 is"),
        (lambda: OnOff(rate=1, on_s=0), "a burst of 0 is"),
        (lambda: Daily(rate=1, peak_to_mean=3), "a peak of 3 times the mean"),
        (lambda: recorded([], None, 1.0), "the trace recorded holds no arrivals"),
        (lambda: Workload(arrivals=Poisson(rate=1), lengths=()), r"the lengths \(\) can't be drawn from"),
        (lambda: Workload(arrivals=Poisson(rate=1), lengths=(4, 0)), r"the lengths \(4, 0\) can't be drawn from"),
        (lambda: Workload(arrivals=Poisson(rate=1), deadline_s=0), "a deadline of 0 is"),
        (lambda: Workload(arrivals=Poisson(rate=1), patience_s=-1), "a patience of -1 is"),
        (lambda: Workload(arrivals=Poisson(rate=1), priorities={3: 0}), "a share of priority 3 of 0 is"),
        (lambda: Workload(arrivals=Poisson(rate=1)).scaled(0), "a factor of 0 is"),
        (lambda: Workload(arrivals=Poisson(rate=1)).draw(rng(), 0), "a duration of 0 is"),
        (lambda: Workload(arrivals=Replay(trace=AZURE)).draw(rng(), -1), "a duration of -1 is"),
        (
            lambda: Workload(arrivals=Replay(trace=AZURE)).draw(rng(), 1e9),
            "rounds of the trace .* are .* over the limit",
        ),
    ]
    for make, message in cases:
        with pytest.raises(ConfigError, match=message):
            make()
