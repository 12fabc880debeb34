"""The verdict, from figures alone."""

from dataclasses import replace

import numpy as np
import pytest

from carpool.loadgen.records import LoadResult
from carpool.loadgen.stats import summarise
from carpool.plan.predict import Interval
from carpool.signals.objective import Objective
from carpool.verify.beside import KINDS, Beside
from carpool.verify.compare import (
    PREDICTED,
    Comparison,
    Trial,
    ceiling,
    cost_at_low_load,
    doubts,
    prediction_held,
    verdict,
)
from carpool.verify.report import picture, predicted_beside_measured, sentences, side_by_side, write_page
from carpool.verify.scrape import BatchFigures

OBJECTIVE = Objective(0.99, 0.050)
BATCHES = BatchFigures(mean_batch_size=4.0, fill_ratio=0.5, padding_waste=0.25, queue_delay_s=0.001, compute_s=0.01)


def trial(rate: int, latency_ms: float, *, batching: bool, cpu_share: float = 0.1, asked: float = 1.0) -> Trial:
    """Every request at `rate` for one second took about `latency_ms`; `asked` times as many were asked for."""
    sent = np.arange(rate) / rate
    latency_s = np.linspace(0.9, 1.1, rate) * latency_ms / 1e3
    result = LoadResult(
        intended_at=sent,
        sent_at=sent,
        done_at=sent + latency_s,
        outcome=np.full(rate, "ok"),
        status=np.full(rate, 200),
        num_bytes=np.full(rate, 100),
        window_s=1.0,
        cpu_share=cpu_share,
    )
    summary = summarise(result, OBJECTIVE)
    return Trial(batching=batching, rate=asked * rate, load=rate / 100, summary=summary, batches=BATCHES)


def compare(off_ms: tuple[float, ...], on_ms: tuple[float, ...], **options: float) -> Comparison:
    """Three loads, and the latency that each server had under them."""
    rates = (10, 100, 200)
    return Comparison(
        objective=OBJECTIVE,
        capacity=100.0,
        off=tuple(trial(rate, ms, batching=False, **options) for rate, ms in zip(rates, off_ms, strict=True)),
        on=tuple(trial(rate, ms, batching=True, **options) for rate, ms in zip(rates, on_ms, strict=True)),
    )


def predicted(comparison: Comparison, *, off: float, on: float) -> Comparison:
    """The same, of which so many times the measured figures had been predicted, give or take a tenth."""

    def add(trial: Trial, factor: float) -> Trial:
        rows = [
            Beside(
                name=name,
                kind=KINDS[name],
                predicted=Interval(value=factor * value, low=0.9 * factor * value, high=1.1 * factor * value),
                measured=(value,),
            )
            for name, value in zip(PREDICTED, (trial.goodput, 4.0, 0.010, 0.020), strict=True)
        ]
        return replace(trial, figures=tuple(rows))

    return replace(
        comparison,
        off=tuple(add(trial, off) for trial in comparison.off),
        on=tuple(add(trial, on) for trial in comparison.on),
    )


def test_the_verdict_says_predicted_beside_measured() -> None:
    """Twice the goodput was measured, and by half more than that predicted."""
    comparison = predicted(compare((10, 20, 900), (10, 20, 30)), off=1.0, on=1.5)
    assert comparison.predicted_speedup == pytest.approx(1.5 * comparison.speedup_goodput)
    assert verdict(comparison)[1].endswith("; predicted before were 300 instead of 100, 3.00 times.")
    assert prediction_held(comparison) == (
        "With batching, 0 of 12 figures (goodput, mean batch, p50, p99) lie in the interval that was predicted before; "
        "the median errors are 50 %, 50 %, 50 %, 50 %."
    )
    assert "12 of 12 figures" in sentences(predicted(comparison, off=1.0, on=1.0))[0]
    assert "1.20 times as long as profiled" in prediction_held(replace(comparison, pace=1.2))


def test_the_table_shows_predicted_beside_measured() -> None:
    """A row for each load of the batching server."""
    table = predicted_beside_measured(predicted(compare((10, 20, 900), (10, 20, 30)), off=1.0, on=1.5))
    assert [row[0] for row in table.rows] == [10, 100, 200]
    assert table.rows[2][1:5] == ("300 (270 to 330)", "200", "6 (5.4 to 6.6)", "4")


def test_batching_that_keeps_up_pays() -> None:
    """Unbatched, the highest load is late throughout; batched, it is in time: twice the goodput."""
    comparison = compare((10, 20, 900), (10, 20, 30))
    tone, said = verdict(comparison)
    assert tone == "good"
    assert comparison.speedup_goodput == pytest.approx(2.0, rel=0.05)
    low, high = comparison.speedup_interval
    assert low < 2.0 < high
    assert f"({low:.2f} to {high:.2f} with 95 % confidence)" in said


def test_batching_that_makes_all_late_does_harm() -> None:
    """The verdict says so, and what to do."""
    tone, said = verdict(compare((10, 20, 30), (10, 20, 900)))
    assert tone == "bad"
    assert "Serve this model without it" in said


def test_no_difference_is_called_that() -> None:
    """Equal goodput is neither praised nor blamed, and neither is a difference that chance explains."""
    assert verdict(compare((10, 20, 30), (10, 20, 30)))[0] == "neutral"
    assert verdict(compare((10, 20, 54), (10, 20, 52)))[0] == "neutral"


def test_cost_at_low_load_is_told_with_its_doubt() -> None:
    """A clear difference is stated; one within the confidence intervals is called possible chance."""
    assert compare((10, 20, 30), (14, 20, 30)).p50_cost_low_load_s == pytest.approx(0.004)
    assert cost_at_low_load(compare((10, 20, 30), (14, 20, 30))).startswith(
        "At 10% of the unbatched capacity batching adds 4 ms at the median (10 ms without, 14 ms with it)"
    )
    assert "may be chance" in cost_at_low_load(compare((10, 20, 30), (10.1, 20, 30)))
    assert "batching saves" in cost_at_low_load(compare((14, 20, 30), (10, 20, 30)))


def test_the_ceiling_counts_what_came_late_too() -> None:
    """Both answered all they were sent within the window, but for the last stragglers."""
    assert ceiling(compare((10, 20, 30), (10, 20, 30))) == (
        "Whatever the latency, 194 requests a second were answered with batching and 194 without."
    )


def test_a_busy_generator_is_a_doubt() -> None:
    """What may be the generator's doing is said, with the evidence."""
    assert doubts(compare((10, 20, 30), (10, 20, 30))) == ()
    (doubt,) = doubts(compare((10, 20, 30), (10, 20, 30), cpu_share=0.99))
    assert "10/s off" in doubt


def test_a_disturbed_machine_is_a_doubt() -> None:
    """Programs that have no part in it took the cores: the figures are not to be trusted, and it says so."""
    disturbed = replace(compare((10, 20, 30), (10, 20, 30)), other_load_cores=0.8)
    assert doubts(disturbed)[0].startswith("Other programs used 0.8 cores")


def test_the_rates_asked_for_are_noted_where_chance_made_others_of_them() -> None:
    """The table and the picture go by what was really sent; a goodput above what was offered can't be."""
    as_asked, more = compare((10, 20, 30), (10, 20, 30)), compare((10, 20, 30), (10, 20, 30), asked=1.1)
    assert [row[0] for row in side_by_side(more).rows] == [10, 10, 100, 100, 200, 200]
    assert "Asked for were 11, 110, 220/s: random arrivals keep to a rate on average only." in side_by_side(more).notes
    assert not any("Asked" in note for note in side_by_side(as_asked).notes)
    assert picture(more).alt == picture(as_asked).alt


def test_the_table_shows_each_load_twice(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Off, then on, at the same rate; the page and the picture are written."""
    comparison = predicted(compare((10, 20, 900), (10, 20, 30)), off=1.0, on=1.0)
    table = side_by_side(comparison)
    assert [row[1] for row in table.rows] == ["off", "on"] * 3
    assert [row[3] for row in table.rows] == [10, 10, 100, 100, 0, 200]
    out = tmp_path_factory.mktemp("out")
    page, png = write_page(comparison, "a model", out, "Measured nowhere.")
    assert "does batching help here?" in page.read_text(encoding="utf-8")
    assert "The plan, predicted before and measured" in page.read_text(encoding="utf-8")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert picture(comparison).png == png.read_bytes()
