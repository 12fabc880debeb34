"""`carpool demo`: the main job on a real model, from measurement to verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from carpool.cli.main import INTERRUPTED
from carpool.cli.options import DURATION, json_option, require_room
from carpool.cli.profile import say, show

if TYPE_CHECKING:
    from carpool.cli.output import Output
    from carpool.cli.plan_source import Source
    from carpool.plan.setup import Setup
    from carpool.profile.artefact import Profile
    from carpool.verify.compare import Comparison
    from carpool.verify.demo import DemoOptions, Yardsticks


@click.command(epilog="Example: carpool demo --out out")
@click.argument("target", default="demo:minilm")
@click.option("--budget", type=DURATION, default="45s", show_default=True, help="About how long to profile.")
@click.option("--window", type=DURATION, default="5s", show_default=True, help="How long each load lasts.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Where to write the profile, the plan, the reports and the pictures.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of one operation on a CPU.  [default: one for each core]"
)
@json_option
def demo(  # noqa: PLR0917 - click passes options by name
    target: str, budget: float, window: float, out: Path, threads: int | None, output: Output
) -> int:
    """Profile TARGET, plan for it, serve it unbatched and as planned under the same load, and say whether that helped.

    TARGET is a model that the load generator has inputs for: one that takes texts or vectors, such as demo:minilm (real
    weights) or demo:null (only waits). The last line printed is one line of JSON with the figures that matter.

    Exits 0 when all was measured, 1 when the model or a server failed, 2 on wrong use, 130 when stopped, results kept.
    """
    from carpool.models.threads import num_cores
    from carpool.profile.options import ProfileOptions
    from carpool.report.progress import progress
    from carpool.verify.demo import DemoOptions, profile_and_report

    require_room(out)
    options = DemoOptions(target=target, window_s=window, num_threads=threads or num_cores())
    with progress(f"1/4  Profiling {target}", budget, unit="s") as bar:
        profile = profile_and_report(target, ProfileOptions(budget_s=budget, num_threads=options.num_threads), out, bar)
    if not profile.complete or profile.failed:
        return show(profile, out, output)
    say(profile, output)
    output.say(f"Written to {out}: profile.json, report.html and its pictures\n")
    comparison = _plan_and_compare(out, options, output)
    return _conclude(profile, comparison, out, output)


def _plan_and_compare(out: Path, options: DemoOptions, output: Output) -> Comparison:
    """Plan for more than the unbatched server can do, serve that beside it, and drive both."""
    from carpool.cli.plan_source import Source, read_source
    from carpool.report.progress import progress
    from carpool.verify.demo import compare_served, planned, unbatched, yardsticks

    source = read_source(out / "profile.json")
    assert isinstance(source, Source), "the demo serves no model that generates"
    output.note("2/4  Serving it unbatched, to see what latency is usual and how much it can do")
    with unbatched(source.path, options) as off:
        found = yardsticks(off, source.subject, options.window_s)
        setup = _plan(source, found, out / "carpool.toml", options, output)
        with (
            progress("4/4  Serving it, unbatched and as planned", 2 * len(options.loads)) as bar,
            planned(out / "carpool.toml", setup, options) as on,
        ):
            return compare_served(off, on, subject=source.subject, found=found, options=options, bar=bar)


def _plan(source: Source, found: Yardsticks, file: Path, options: DemoOptions, output: Output) -> Setup:
    """Plan for the highest load that can be kept within the objective; print and write the plan."""
    from carpool.cli.plan import make
    from carpool.cli.plan import say as say_plan
    from carpool.cli.plan import write as write_plan
    from carpool.plan.plan import PlanOptions
    from carpool.verify.demo import planned_load

    load = planned_load(source.subject, found, options)
    asked = PlanOptions(window_s=options.window_s, seed=options.seed, transport_s=found.alone.transport_s)
    made = make(source, load, (found.objective,), asked, step="3/4  ")
    say_plan(made, output)
    written = write_plan(made, source, load, file)
    output.say(f"Written to {file.parent}: {', '.join(path.name for path in written)}\n")
    return made.chosen


def _conclude(profile: Profile, comparison: Comparison, out: Path, output: Output) -> int:
    from carpool.verify.compare import verdict
    from carpool.verify.report import predicted_beside_measured, sentences, side_by_side, write_page

    if not comparison.off:
        output.note("stopped before both servers had the same load: there is nothing to compare")
        return INTERRUPTED
    output.table(side_by_side(comparison))
    output.say()
    output.table(predicted_beside_measured(comparison))
    output.say(f"\n{verdict(comparison)[1]}")
    for sentence in sentences(comparison):
        output.say(f"- {sentence}")
    footer = f"Measured on {profile.machine.device_name}, {profile.machine.platform}, {profile.created_at}."
    written = write_page(comparison, profile.name, out, footer)
    output.say(f"Written to {out}: {', '.join(path.name for path in written)}")
    output.result_line(_figures(profile, comparison))
    return INTERRUPTED if comparison.interrupted else 0


def _figures(profile: Profile, comparison: Comparison) -> dict[str, float | None]:
    assert profile.cost_model is not None, "without one there was no plan"
    return {
        "speedup_goodput": round(comparison.speedup_goodput, 3),
        "predicted_speedup_goodput": round(comparison.predicted_speedup, 3),
        "p50_cost_low_load_ms": round(comparison.p50_cost_low_load_s * 1e3, 3),
        "knee_batch_size": profile.knee.batch_size if profile.knee else None,
        "fit_error_pct": round(profile.cost_model.error_pct, 2),
    }
