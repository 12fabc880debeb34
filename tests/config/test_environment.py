"""Which environment variables are settings, which are slips, and which are other programs'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from carpool.config.environment import settings_in
from carpool.config.tables import leaves
from carpool.errors import ConfigError

SOURCE = Path(__file__).parents[2] / "src"


def test_every_variable_of_a_key_sets_it() -> None:
    """By the key, with the text as it stands."""
    settable = [leaf for leaf in leaves() if not leaf.is_table]
    environ = {leaf.variable: leaf.key for leaf in settable}
    assert settings_in(environ, leaves()) == {leaf.key: leaf.key for leaf in settable}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CARPOOL_POLICY_MAXWAIT", "CARPOOL_POLICY_MAX_WAIT"),
        ("CARPOOL_POLCY_MAX_WAIT", "CARPOOL_POLICY_MAX_WAIT"),
        ("CARPOOL_SERVE_PORT", "CARPOOL_SERVER_PORT"),
        ("CARPOOL_OBJECTIVES_P99", "CARPOOL_OBJECTIVE_P99"),
        ("CARPOOL_MAX_BATCH_SIZE", "CARPOOL_POLICY_MAX_BATCH_SIZE"),
        ("CARPOOL_PORT", "CARPOOL_SERVER_PORT"),
        ("CARPOOL_PROFLE", "CARPOOL_PROFILE"),
    ],
)
def test_a_slip_names_what_was_meant(name: str, near: str) -> None:
    """A key or a table that is spelt wrongly, and a table that was left out."""
    with pytest.raises(ConfigError, match=f"^{name} is not a variable that is known: did you mean {near}\\?$"):
        settings_in({name: "1"}, leaves())


@pytest.mark.parametrize("name", ["CARPOOL_TENANTS", "CARPOOL_TENANT_PAID"])
def test_tenants_in_the_environment_are_told_where_to_go(name: str) -> None:
    """They would otherwise be left out of account in silence."""
    with pytest.raises(ConfigError, match=f"^{name} sets nothing: .* in a file only, under \\[tenants\\]$"):
        settings_in({name: "4"}, leaves())


@pytest.mark.parametrize(
    "name", ["CARPOOL_DEBUG", "CARPOOL_ENV", "CARPOOL_DB_HOST", "CARPOOL_LOG_LEVEL", "CARPOOLING", "HOME"]
)
def test_what_is_like_none_of_ours_is_left_alone(name: str) -> None:
    """Others may use the prefix too."""
    assert settings_in({name: "1"}, leaves()) == {}


def test_what_kubernetes_says_of_a_service_named_carpool_is_left_alone() -> None:
    """It puts these into every container beside the service, and one of them has the name of a key."""
    environ = {
        "CARPOOL_SERVICE_HOST": "10.0.0.1",
        "CARPOOL_SERVICE_PORT": "80",
        "CARPOOL_SERVICE_PORT_HTTP": "80",
        "CARPOOL_PORT": "tcp://10.0.0.1:80",
        "CARPOOL_PORT_80_TCP": "tcp://10.0.0.1:80",
        "CARPOOL_PORT_80_TCP_ADDR": "10.0.0.1",
        "CARPOOL_SERVER_SERVICE_HOST": "10.0.0.2",
        "CARPOOL_SERVER_PORT": "tcp://10.0.0.2:80",
    }
    assert settings_in(environ, leaves()) == {}


def test_every_variable_that_the_source_names_may_be_set() -> None:
    """What the program itself reads or shows in its help is never taken for a slip."""
    named = {
        name for path in SOURCE.rglob("*.py") for name in re.findall(r"CARPOOL_[A-Z_]*[A-Z]", path.read_text("utf-8"))
    }
    settings_in(dict.fromkeys(named, "1"), leaves())
