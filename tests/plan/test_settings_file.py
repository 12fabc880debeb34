"""The `carpool.toml` of a plan, read back by what a server reads it with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from carpool.config.policy_keys import policy_table
from carpool.config.settings import ServeSettings, load_settings
from carpool.core.policy import Policy
from carpool.plan.settings_file import Origin, settings_text
from carpool.plan.setup import Setup
from carpool.plan.workload_table import from_settings, to_table
from carpool.signals.objective import Objective
from tests.plan.plans import plan, workload

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from carpool.plan.plan import Plan

HASH = "a1" * 32


def origin(**changed: Any) -> Origin:
    """A profile beside the file, of a model on a processor."""
    known: dict[str, Any] = {
        "profile": "profile.json",
        "profile_sha256": HASH,
        "device": "cpu",
        "dtype": "float32",
        "num_threads": 1,
        "workload": to_table(workload(80.0)),
    }
    return Origin(**(known | changed))


def read_back(directory: Path, one: Plan, **changed: Any) -> ServeSettings:
    """Write the file, and read it as `carpool serve` does."""
    path = directory / "carpool.toml"
    path.write_text(settings_text(one, origin(**changed)), encoding="utf-8")
    return load_settings(path)


def test_a_server_reads_what_was_planned(tmp_path: Path) -> None:
    """Model, policy, objective, profile and load are those of the plan."""
    settings = read_back(tmp_path, plan())
    assert settings.policy == replace(plan().chosen.policy, objectives_s={"p99": 0.1})
    assert settings.model.target == "demo:null"
    assert (settings.model.device, settings.model.dtype, settings.model.num_threads) == ("cpu", "float32", 1)
    assert settings.model.num_workers == 1
    assert settings.profile == tmp_path / "profile.json"
    assert settings.profile_sha256 == HASH
    assert settings.objectives_s == {"p99": 0.1}
    assert from_settings(settings.workload) == workload(80.0)


policies = st.builds(
    Policy,
    max_batch_size=st.integers(1, 512),
    max_wait_s=st.just(0.0) | st.floats(1e-6, 2.0),
    token_budget=st.none() | st.integers(512, 65536),
    length_buckets=st.sampled_from([(), (16, 32), (7,)]),
    memory_limit_bytes=st.none() | st.integers(1, 1 << 40),
    look_ahead=st.integers(1, 512),
    patience_s=st.floats(1e-3, 100.0),
    tenant_weights=st.sampled_from([{}, {"paid": 4.0, "a-tenant": 0.5}]),
)


@given(policy=policies)
def test_every_policy_survives(tmp_path_factory: pytest.TempPathFactory, policy: Policy) -> None:
    """To the last bit: a server that waits a little longer is not the one that was simulated."""
    one = replace(plan(), chosen=Setup(policy=policy, num_workers=3))
    settings = read_back(tmp_path_factory.mktemp("plan"), one)
    assert settings.policy == replace(policy, objectives_s=settings.objectives_s)
    assert settings.model.num_workers == 3


def test_what_is_not_known_is_left_to_the_model(tmp_path: Path) -> None:
    """A plain function has no device and no dtype, and a plan need not have objectives."""
    settings = read_back(tmp_path, replace(plan(), objectives=()), device=None, dtype=None, num_threads=None)
    assert (settings.model.device, settings.model.dtype, settings.model.num_threads) == (None, None, None)
    assert settings.objectives_s == {}


def test_every_objective_is_written(tmp_path: Path) -> None:
    """Those that `carpool.toml` knows."""
    promised = (Objective(0.5, 0.0105), Objective(0.95, 0.05), Objective(0.99, 1.5))
    assert read_back(tmp_path, replace(plan(), objectives=promised)).objectives_s == {
        "p50": 0.0105,
        "p95": 0.05,
        "p99": 1.5,
    }


def test_the_file_says_what_was_predicted() -> None:
    """Whoever opens it sees what it is for, and figures with intervals."""
    text = settings_text(plan(), origin())
    comment = [line for line in text.splitlines() if line.startswith("#")]
    assert comment[0].startswith("# A plan for this load: Poisson arrivals at 100/s")
    assert comment[1] == "# Batches of up to 8, on 1 worker."
    assert any(line.startswith("#   p99") and " to " in line for line in comment)
    endless = replace(plan(), prediction=replace(plan().prediction, stable=False))
    assert "p99  " not in settings_text(endless, origin())


def test_durations_are_written_as_people_do_where_that_is_exact() -> None:
    """Elsewhere as the number of seconds."""
    assert policy_table(Policy(max_wait_s=0.0025))["max_wait"] == "2.5ms"
    assert policy_table(Policy(max_wait_s=1.5))["max_wait"] == "1.5s"
    third = 1 / 3
    assert policy_table(Policy(max_wait_s=third))["max_wait"] == third
