"""What is measured again, and what is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.config.settings import ServeSettings, load_settings
from carpool.errors import ConfigError
from carpool.profile.artefact import load_profile
from carpool.report.progress import SilentProgress
from carpool.verify.again import batch_sizes_up_to, lengths_between, options_again, profile_of

if TYPE_CHECKING:
    from pathlib import Path


def settings(**flags: object) -> ServeSettings:
    """A plan for the null model."""
    return load_settings(flags={"model.target": "demo:null", "workload.rate": 50, **flags})


@pytest.mark.parametrize(("largest", "sizes"), [(1, (1,)), (2, (1, 2)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8, 9))])
def test_batch_sizes_end_with_the_plans_own(largest: int, sizes: tuple[int, ...]) -> None:
    """Larger ones are never run."""
    assert batch_sizes_up_to(largest) == sizes


def test_lengths_are_those_that_the_load_is_padded_to() -> None:
    """Both ends, and the usual ones between; beyond the last bucket the last."""
    buckets = (8, 16, 24, 32, 48, 64, 128)
    assert lengths_between([30, 20], buckets) == (24, 32)
    assert lengths_between([64], buckets) == (64,)
    assert lengths_between([5, 500], buckets) == (8, 16, 32, 64, 128)


def test_the_model_is_measured_as_it_is_served() -> None:
    """Device, dtype and threads are the plan's; memory is not probed again."""
    plan = settings(**{"model.num_threads": 1, "model.device": "cpu", "policy.max_batch_size": 4})
    options = options_again(plan.model, max_batch_size=4, lengths=(30,), buckets=(16, 32), budget_s=9.0)
    assert (options.num_threads, options.device, options.batch_sizes, options.lengths) == (1, "cpu", (1, 2, 4), (32,))
    assert not options.probe_memory
    assert options_again(plan.model, max_batch_size=4, lengths=(), buckets=(), budget_s=9.0).lengths == ()


def test_a_plan_without_a_profile_needs_one() -> None:
    """The message says both ways to have one."""
    with (
        pytest.raises(ConfigError, match=r"names no profile.*profile = .*--profile-again 30s"),
        profile_of(settings(), again_s=None, out=None, bar=SilentProgress()),
    ):
        pass


def test_a_profile_that_is_measured_again_is_kept_where_asked(tmp_path: Path) -> None:
    """The server reads it from there; what is predicted from is the same."""
    plan = settings(**{"policy.max_batch_size": 2})
    with profile_of(plan, again_s=1.0, out=tmp_path / "new", bar=SilentProgress()) as (measured, path):
        assert path == tmp_path / "new" / "profile.json"
        assert load_profile(path) == measured
    assert measured.batch_sizes == (1, 2)
    with profile_of(settings(profile=str(path)), again_s=None, out=None, bar=SilentProgress()) as (known, read_from):
        assert (known, read_from) == (measured, path)
