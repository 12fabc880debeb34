"""The options of a load, as a command receives them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from carpool.cli.workload_options import (
    ARRIVALS,
    GENERATION_KEYS,
    arrival_options,
    planned_options,
    workload_options,
)
from carpool.config.settings import load_settings
from carpool.config.workload_keys import WorkloadTable
from carpool.plan.workload_table import from_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

AZURE = Path(__file__).parent.parent / "data" / "azure_conversation.csv"


def received(*words: str, name: str = "thing") -> tuple[Mapping[str, Any], str]:
    """What a command with one argument of its own is called with, and what was said of wrong use."""
    seen: dict[str, Any] = {}

    @click.command()
    @click.argument("name")
    @workload_options
    def command(name: str, workload: dict[str, Any]) -> None:
        seen.update(workload, name=name)

    result = CliRunner().invoke(command, [name, *words])
    return seen, " ".join(result.output.split())


def test_only_what_was_given_is_handed_on_beside_the_commands_own() -> None:
    """So defaults, and a file's own values, are left to the settings."""
    assert received()[0] == {"name": "thing"}
    assert received("--rate", "400", "--deadline", "50ms")[0] == {
        "name": "thing",
        "workload.rate": 400.0,
        "workload.deadline": 0.05,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "400", "--lengths", "64"], "Poisson arrivals at 400/s; lengths of 64 tokens."),
        (
            ["--rate", "5", "--arrivals", "gamma", "--burstiness", "2", "--lengths", "16,32,64"],
            "gamma arrivals of burstiness 2 at 5/s; lengths of 16 to 64 tokens, 37.3 on average.",
        ),
        (
            ["--rate", "5", "--arrivals", "on-off", "--on", "2s", "--off", "8s"],
            "bursts of 2 s every 10 s at 5/s on average; lengths of 1 token.",
        ),
        (
            ["--rate", "5", "--arrivals", "daily", "--peak-to-mean", "1.6", "--period", "1h"],
            "a daily curve of 60 min 0 s with a mean of 5/s and a peak of 8/s; lengths of 1 token.",
        ),
        (
            ["--rate", "5", "--arrivals", "constant", "--patience", "2s", "--priorities", "0=9,5=1"],
            "evenly spaced arrivals at 5/s; lengths of 1 token; clients that leave after 2 s; priorities 0, 5.",
        ),
    ],
)
def test_options_become_the_workload_that_they_describe(words: list[str], said: str) -> None:
    """Through the settings, as a file's keys do."""
    seen = dict(received(*words)[0])
    del seen["name"]
    assert from_settings(load_settings(flags=seen).workload).describe() == said


def test_a_trace_is_cut_and_scaled_by_options() -> None:
    """From its tenth second, ten seconds, at a hundred a second."""
    seen = dict(received("--trace", str(AZURE), "--trace-start", "10s", "--trace-duration", "10s", "--rate", "100")[0])
    del seen["name"]
    assert "from 10 s on" in (said := from_settings(load_settings(flags=seen).workload).describe())
    assert "100/s on average" in said


def test_every_key_of_the_table_has_its_option() -> None:
    """Those of generations where one plans for them alone; and the choices of arrivals are those of the key."""
    words = {"--" + name.replace("_", "-") for name in WorkloadTable.__dataclass_fields__}

    @click.command()
    @planned_options
    def planned(workload: dict[str, Any]) -> None:
        """Take nothing."""

    help_text = CliRunner().invoke(planned, ["--help"]).output
    assert all(word in help_text for word in words)
    generations = {f"--{key.removeprefix('workload.').replace('_', '-')}" for key in GENERATION_KEYS}
    assert not any(word in received("--help")[1] for word in generations)
    assert generations < words
    assert all(load_settings(flags={"workload.arrivals": kind}).workload.arrivals == kind for kind in ARRIVALS)


def test_arrivals_alone_leave_rate_and_items_to_the_command() -> None:
    """A load generator has a rate of its own and sends whole requests."""

    @click.command()
    @arrival_options
    def command(workload: dict[str, Any]) -> None:
        """Take nothing else."""

    shown = CliRunner().invoke(command, ["--help"]).output
    assert "--burstiness" in shown
    assert "--rate" not in shown
    assert "--lengths" not in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--rate", "0"], "a rate of 0 a second is not a finite number above 0"),
        (["--lengths", "16,no"], "'no' is not a whole number"),
        (["--lengths", "0"], "a length of 0 is outside 1 to"),
        (["--priorities", "5"], "'5' is not the share of a priority: write a whole number, = and a share above 0"),
        (["--priorities", "5=0"], "'5=0' is not the share of a priority"),
        (["--deadline", "0s"], "'0s' is no time at all"),
        (["--arrivals", "bursty"], "'bursty' is not one of 'poisson', 'gamma', 'constant', 'on-off', 'daily'"),
    ],
)
def test_wrong_values_are_wrong_use(words: list[str], message: str) -> None:
    """The message says what to write."""
    assert message in received(*words)[1]
