"""A workload described in settings, written as a table, and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.config.settings import load_settings
from carpool.config.toml_text import to_toml
from carpool.errors import ConfigError
from carpool.plan.trace import read_trace
from carpool.plan.workload import Arrivals, Constant, Daily, Gamma, OnOff, Poisson, Replay, Workload
from carpool.plan.workload_table import from_settings, to_table

AZURE = Path(__file__).parent.parent / "data" / "azure_conversation.csv"

positive = st.floats(1e-3, 1e6)
generated: st.SearchStrategy[Arrivals] = st.one_of(
    st.builds(Poisson, rate=positive),
    st.builds(Gamma, rate=positive, burstiness=positive),
    st.builds(Constant, rate=positive),
    st.builds(OnOff, rate=positive, on_s=positive, off_s=st.floats(0, 1e6)),
    st.builds(Daily, rate=positive, peak_to_mean=st.floats(1, 2), period_s=positive),
)
workloads = st.builds(
    Workload,
    arrivals=generated,
    lengths=st.lists(st.integers(1, 4096), min_size=1, max_size=4).map(tuple),
    deadline_s=st.none() | positive,
    patience_s=st.none() | positive,
    priorities=st.dictionaries(st.integers(-5, 5), positive, max_size=3),
)


def from_table(table: dict[str, Any], *, lengths: tuple[int, ...] = ()) -> Workload:
    """The workload that a table describes, by the keys that it has."""
    flags = {f"workload.{key}": value for key, value in table.items()}
    return from_settings(load_settings(flags=flags).workload, lengths=lengths)


@given(workload=workloads)
def test_a_workload_comes_back_from_its_table(workload: Workload) -> None:
    """Nothing of it is lost or rounded, in the table and in the file that it is written to."""
    assert from_table(to_table(workload)) == workload


@given(workload=workloads)
def test_a_workload_comes_back_from_a_carpool_toml(
    tmp_path_factory: pytest.TempPathFactory, workload: Workload
) -> None:
    """The text of the file is read as the table was."""
    path = tmp_path_factory.getbasetemp() / "carpool.toml"
    path.write_text(to_toml({"workload": to_table(workload)}), encoding="utf-8")
    assert from_settings(load_settings(path).workload) == workload


@pytest.mark.parametrize(
    "window", [{}, {"speed": 2.5}, {"start_s": 7.5}, {"start_s": 3.25, "duration_s": 4.5, "speed": 3.0}]
)
def test_a_trace_comes_back_cut_and_sped_up_as_it_was(tmp_path: Path, window: dict[str, float]) -> None:
    """It is named from beside the file, so that directory and file can be moved together."""
    trace = read_trace(AZURE).window(**window)
    path = tmp_path / "plans" / "carpool.toml"
    path.parent.mkdir()
    table = to_table(Workload(arrivals=Replay(trace=trace)), beside=path.parent)
    assert table["trace"].startswith("../")
    path.write_text(to_toml({"workload": table}), encoding="utf-8")
    found = from_settings(load_settings(path).workload).arrivals
    assert isinstance(found, Replay)
    assert found.trace.times_s == pytest.approx(trace.times_s)
    assert found.trace.duration_s == pytest.approx(trace.duration_s)
    assert np.array_equal(found.trace.lengths, trace.lengths)  # type: ignore[arg-type]  # both have lengths


def test_a_rate_scales_a_trace_to_it() -> None:
    """The trace is played as fast as gives the rate, whichever window of it is used."""
    for more in ({}, {"trace_start": "10s", "trace_duration": "20s"}):
        workload = from_table({"trace": str(AZURE), "rate": 400, **more})
        assert workload.rate == pytest.approx(400)


def test_the_profiles_examples_are_drawn_from_where_no_lengths_are_told() -> None:
    """And what is told wins over them; without either, lengths mean nothing."""
    assert from_table({"rate": 1}, lengths=(7, 9)).lengths == (7, 9)
    assert from_table({"rate": 1, "lengths": [5]}, lengths=(7, 9)).lengths == (5,)
    assert from_table({"rate": 1}).lengths == (1,)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "nothing says how many items arrive: give a rate, such as 200 a second, or a trace"),
        ({"arrivals": "gamma"}, "nothing says how many items arrive"),
        ({"rate": 0}, "workload.rate is 0; it must be a number above 0"),
        ({"rate": float("inf")}, "a rate of inf is not a finite number above 0"),
        ({"rate": 1, "burstiness": 4}, "burstiness shapes gamma arrivals, and these are poisson: leave it out, or set"),
        ({"rate": 1, "arrivals": "daily", "off": 1}, "off shapes on-off arrivals, and these are daily"),
        ({"rate": 1, "trace_start": 1}, "trace_start shapes trace arrivals, and these are poisson: .* name a trace"),
        ({"rate": 1, "arrivals": "bursty"}, "workload.arrivals is 'bursty'; it must be one of"),
        ({"trace": str(AZURE), "arrivals": "poisson"}, "arrivals can't be poisson and those of a trace: leave out"),
        ({"trace": str(AZURE), "rate": 5, "speed": 2}, "a rate of 5 a second and a speed of 2 both say how fast"),
        ({"trace": str(AZURE), "trace_duration": "1h"}, "3600 s from 0 s on go beyond the end of the trace .*, which"),
        ({"trace": "missing.csv"}, "the trace missing.csv can't be read"),
    ],
)
def test_a_workload_that_contradicts_itself_says_what_to_leave_out(table: dict[str, Any], message: str) -> None:
    """Each message has the value, and what to write instead."""
    with pytest.raises(ConfigError, match=message):
        from_table(table)
