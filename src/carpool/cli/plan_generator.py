"""`carpool plan` for a model that generates."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carpool.cli.plan_output import say_tables, say_written, watching, write_beside
from carpool.cli.plan_source import doubts_about, origin_of_generator
from carpool.config.settings import load_settings
from carpool.errors import ConfigError
from carpool.plan.llm_figures import read_llm_objectives
from carpool.plan.llm_page import write_pages
from carpool.plan.llm_plan import LlmPlan, LlmPlanOptions, make_llm_plan
from carpool.plan.llm_settings_file import llm_settings_text
from carpool.plan.llm_tables import prediction_table, what_if_table
from carpool.plan.llm_workload_table import llm_from_settings

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.cli.output import Output
    from carpool.cli.plan_source import LlmSource
    from carpool.plan.llm_workload import LlmWorkload


def plan_generator(source: LlmSource, given: dict[str, Any], out: Path, output: Output) -> int:
    """Choose how to serve a model that generates, print and write it, and return the exit code.

    Args:
        source: The profile.
        given: The options of the command, by their names.
        out: The `carpool.toml` to write.
        output: Prints.
    """
    if given["price"] is not None:
        raise ConfigError("--price is not planned for with a model that generates: leave it out")
    objectives, load = read_llm_objectives(given["slo"]), _load(given["workload"])
    options = LlmPlanOptions(
        max_workers=given["max_workers"] or 1,
        max_slots=given["max_batch_size"],
        memory_bytes=given["memory"],
        window_s=given["window"],
        num_runs=given["runs"],
        seed=given["seed"],
    )
    with watching(f"Planning for {source.subject.name}") as watch:
        made = make_llm_plan(source.subject, load, objectives, options, watch=watch)
    made = replace(made, doubts=(*doubts_about(source), *made.doubts))
    say_tables(made, (prediction_table(made), what_if_table(made)), output)
    output.result(made)
    return say_written(made, _write(made, source, load, out), out, output)


def _load(given: dict[str, Any]) -> LlmWorkload:
    settings = load_settings(flags=given, environ=os.environ).workload
    if settings.rate is None and settings.trace is None:
        raise ConfigError("nothing says how many requests arrive: give --rate, such as --rate 2, or a --trace")
    return llm_from_settings(settings)


def _write(made: LlmPlan, source: LlmSource, load: LlmWorkload, out: Path) -> list[Path]:
    text = llm_settings_text(made, origin_of_generator(source, load, out.parent))
    return write_beside(out, text, source, lambda footer, stem: write_pages(made, out.parent, footer, stem=stem))
