"""`carpool verify`: serve a plan, load it as planned, and print predicted beside measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carpool.cli.main import INTERRUPTED
from carpool.cli.options import DURATION, json_option, require_room
from carpool.cli.workload_options import workload_options
from carpool.errors import ConfigError
from carpool.models.generator import is_generator

if TYPE_CHECKING:
    from carpool.cli.output import Output
    from carpool.config.settings import ServeSettings
    from carpool.verify.check import Check

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command(epilog="Example: carpool verify carpool.toml --duration 60s --profile-again 30s --runs 5 --out out")
@click.argument("plan", type=FILE)
@click.option("--duration", type=DURATION, default="60s", show_default=True, help="How long a measured window lasts.")
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Windows to measure in turn.")
@click.option("--profile-again", type=DURATION, help="Measure the model again before, for about so long.")
@click.option("--as-profiled", is_flag=True, help="Predict batches as profiled, however long they take one client.")
@workload_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of arrivals and simulations.")
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Write verify.json, verify.html, a picture here."
)
@json_option
def verify(  # noqa: PLR0917 - click passes options by name
    plan: Path,
    duration: float,
    runs: int,
    profile_again: float | None,
    as_profiled: bool,  # noqa: FBT001
    workload: dict[str, Any],
    seed: int,
    out: Path | None,
    output: Output,
) -> int:
    """Serve PLAN on loopback, drive it with the load that it was made for, and hold the prediction against it.

    PLAN is a carpool.toml that `carpool plan` wrote; options of the load win over its [workload].

    Exits 0 when it was measured, whether or not it was as predicted, 1 when the model or the server failed, 2 on wrong
    use, 130 when stopped, results kept.
    """
    from carpool.report.progress import progress
    from carpool.verify.check import check_plan
    from carpool.verify.trial import TrialOptions

    settings = _settings(plan, workload)
    if out is not None:
        require_room(out)
    options = TrialOptions(duration_s=duration, num_windows=runs, seed=seed, as_profiled=as_profiled)
    with progress(f"Verifying {plan}", options.total_s + (profile_again or 0.0)) as bar:
        check = check_plan(plan, settings, options, again_s=profile_again, out=out, bar=bar)
    _report(check, out, output)
    return INTERRUPTED if check.interrupted else 0


def _settings(plan: Path, workload: dict[str, Any]) -> ServeSettings:
    """Read the plan, as the server will that is started from it."""
    from carpool.config.settings import load_settings

    settings = load_settings(plan, flags=workload, environ=os.environ)
    if settings.model.target is None:
        raise ConfigError(f"{plan} has no [model] target: write a plan by `carpool plan out/profile.json --rate 200`")
    if is_generator(settings.model.target):
        raise ConfigError(
            f"{plan} serves {settings.model.target}, which generates, and only plans of models that answer in batches "
            "can be verified: serve it with `carpool serve`, and look at /metrics"
        )
    if settings.workload.rate is None and settings.workload.trace is None:
        raise ConfigError(
            f"{plan} has no [workload], as `carpool plan` writes it, so nothing says how many items arrive: give a "
            "rate by --rate 200, or a trace by --trace FILE"
        )
    return settings


def _report(check: Check, out: Path | None, output: Output) -> None:
    """Print and write what the check amounts to."""
    from carpool.cli.output import to_json
    from carpool.verify.check_document import as_document
    from carpool.verify.check_report import rows_of, steps_table, table, write_page
    from carpool.verify.reasons import doubts, reasons, verdict

    rows = rows_of(check)
    output.table(table(check, rows))
    output.say()
    output.table(steps_table(check))
    output.say(f"\n{verdict(rows)[1]}")
    for sentence in (*reasons(check, rows), *doubts(check)):
        output.say(f"- {sentence}")
    document = as_document(check, rows)
    if out is not None:
        try:
            written = write_page(check, rows, out)
            (out / "verify.json").write_text(to_json(document) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{out} can't be written to ({error}): name another directory with --out") from None
        output.say(f"Written to {out}: verify.json, {', '.join(path.name for path in written)}")
    output.result(document)
