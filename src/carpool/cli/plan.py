"""`carpool plan`: choose how to serve a measured model under a load, and say what that will do."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carpool.cli.options import BYTES, DURATION, Parsed, json_option, parse_rate, require_room
from carpool.cli.plan_output import say_tables, say_written, watching, write_beside
from carpool.cli.workload_options import GENERATION_KEYS, planned_options
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from carpool.cli.output import Output
    from carpool.cli.plan_source import Source
    from carpool.plan.plan import Plan, PlanOptions
    from carpool.plan.subject import Subject
    from carpool.plan.workload import Workload
    from carpool.signals.objective import Objective


def parse_price(text: str) -> float:
    """Read a price, finite and above 0."""
    try:
        return parse_rate(text)
    except ConfigError:
        raise ConfigError(f"{text!r} is not a price: give a number above 0, such as 1.20 an hour") from None


@click.command(epilog="Example: carpool plan out/profile.json --rate 400 --slo p99=50ms --out carpool.toml")
@click.argument("profile", type=click.Path(path_type=Path))
@planned_options
@click.option(
    "--slo",
    "--objective",
    "slo",
    multiple=True,
    metavar="p99=50ms",
    help="A latency to keep: p50, p95 or p99; of what generates ttft=1s, tpot=150ms, ttft.p90=1s. May be repeated.",
)
@click.option(
    "--max-workers",
    type=click.IntRange(1, 4096),
    help="Most workers that may be used.  [default: as many as serve the model best on the measured machine]",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(min=1),
    help="Most items in a batch, or sequences at a time.  [default: as measured]",
)
@click.option(
    "--memory", type=BYTES, help="Memory of one worker, such as 8GiB.  [default: what the profile was allowed]"
)
@click.option("--price", type=Parsed("price", parse_price), help="Of one worker for an hour, in any currency.")
@click.option("--window", type=DURATION, default="60s", show_default=True, help="How long a measurement would last.")
@click.option("--runs", type=click.IntRange(1, 1000), default=20, show_default=True, help="Windows behind each figure.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same plan.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The carpool.toml to write, and beside it plan.html (x.html for x.toml).  [default: beside the profile]",
)
@json_option
def plan(
    profile: Path, out: Path | None, workload: dict[str, Any], slo: tuple[str, ...], output: Output, **given: Any
) -> int:
    """Choose how to serve the model of PROFILE (a profile.json) under a load, by simulating the server's own policy.

    Says with which batch size and wait, on how many workers, what latency and cost that gives, what limits it, and what
    else could be done; and writes a carpool.toml that `carpool serve` runs as it is. Of a model that generates it says
    how many sequences at a time, tokens in a step and keys and values in memory; the load then has answers too.

    Exits 0 when the plan keeps every objective, 1 when none does (the nearest is written), 2 on wrong use.
    """
    from carpool.cli.plan_source import LlmSource, read_source
    from carpool.plan.slo import read_objectives

    out = profile.parent / "carpool.toml" if out is None else out
    require_file(out)
    source = read_source(profile)
    if isinstance(source, LlmSource):
        from carpool.cli.plan_generator import plan_generator

        return plan_generator(source, given | {"workload": workload, "slo": slo}, out, output)
    _refuse_generations(workload, profile)
    objectives = read_objectives(slo)
    options = _options(given | {"max_workers": given["max_workers"] or source.profile.preferred_workers})
    load = _load(workload, source.subject)
    made = make(source, load, objectives, options)
    say(made, output)
    output.result(made)
    return say_written(made, write(made, source, load, out), out, output)


def _refuse_generations(workload: dict[str, Any], profile: Path) -> None:
    """Refuse what says how long answers are, of a model that gives none.

    Raises:
        ConfigError: Some of it was given.
    """
    for key in GENERATION_KEYS:
        if key in workload:
            option = f"--{key.removeprefix('workload.').replace('_', '-')}"
            raise ConfigError(
                f"{option} is of models that generate, and {profile} is the profile of another: leave it out"
            )


def _options(given: dict[str, Any]) -> PlanOptions:
    from carpool.plan.plan import PlanOptions

    return PlanOptions(
        max_workers=given["max_workers"],
        max_batch_size=given["max_batch_size"],
        memory_limit_bytes=given["memory"],
        price_per_hour=given["price"],
        window_s=given["window"],
        num_runs=given["runs"],
        seed=given["seed"],
    )


def require_file(out: Path) -> None:
    """Refuse a place that no carpool.toml can be written to, before anything is worked out.

    Raises:
        ConfigError: It is a directory, has another ending, or its directory can't be made or filled.
    """
    if out.suffix != ".toml":
        example = out.with_suffix(".toml") if out.suffix and not out.is_dir() else out / "carpool.toml"
        raise ConfigError(f"--out {out} must name a file that ends in .toml, such as {example}")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a directory: name a file in it, such as {out / 'carpool.toml'}")
    require_room(out.parent)


def _load(given: dict[str, Any], subject: Subject) -> Workload:
    """Settle what arrives: as told, of lengths as told or as the model's own examples have them."""
    from carpool.config.settings import load_settings
    from carpool.plan.workload_table import from_settings

    settings = load_settings(flags=given, environ=os.environ).workload
    if settings.rate is None and settings.trace is None:
        raise ConfigError("nothing says how many items arrive: give --rate, such as --rate 200, or a --trace")
    return from_settings(settings, lengths=subject.example_lengths)


def make(
    source: Source, load: Workload, objectives: tuple[Objective, ...], options: PlanOptions, *, step: str = ""
) -> Plan:
    """Make the plan with a progress bar on standard error, and add what speaks against its figures."""
    from carpool.cli.plan_source import doubts_about
    from carpool.plan.plan import make_plan

    with watching(f"{step}Planning for {source.subject.name}") as watch:
        made = make_plan(source.subject, load, objectives, options, watch=watch)
    return replace(made, doubts=(*doubts_about(source), *made.doubts))


def say(made: Plan, output: Output) -> None:
    """Print a plan: what it will do, what else could be done, and what that means in words."""
    from carpool.plan.tables import prediction_table, what_if_table

    say_tables(made, (prediction_table(made), what_if_table(made)), output)


def write(made: Plan, source: Source, load: Workload, out: Path) -> list[Path]:
    """Write the settings, and the page beside them.

    Raises:
        ConfigError: They can't be written there.
    """
    from carpool.cli.plan_source import origin_of
    from carpool.plan.page import write_pages
    from carpool.plan.settings_file import settings_text

    text = settings_text(made, origin_of(source, load, out.parent))
    return write_beside(out, text, source, lambda footer, stem: write_pages(made, out.parent, footer, stem=stem))
