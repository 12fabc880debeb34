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
    from carpool.profile.artefact import Profile
    from carpool.verify.compare import Comparison


@click.command(epilog="Example: carpool demo --out out")
@click.argument("target", default="demo:minilm")
@click.option("--budget", type=DURATION, default="45s", show_default=True, help="About how long to profile.")
@click.option("--window", type=DURATION, default="5s", show_default=True, help="How long each load lasts.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Where to write the profile, the reports and the pictures.",
)
@json_option
def demo(target: str, budget: float, window: float, out: Path, output: Output) -> int:
    """Profile TARGET, serve it with batching off and on under the same load, and say whether batching helped.

    TARGET is a model that the load generator has inputs for: one that takes texts or vectors, such as demo:minilm (real
    weights) or demo:null (only waits). The last line printed is one line of JSON with the figures that matter.

    Exits 0 when all was measured, 1 when the model or a server failed, 2 on wrong use, 130 when stopped, results kept.
    """
    from carpool.profile.options import ProfileOptions
    from carpool.report.progress import progress
    from carpool.verify.demo import DemoOptions, compare_served, profile_and_report

    require_room(out)
    with progress(f"1/2  Profiling {target}", budget, unit="s") as bar:
        profile = profile_and_report(target, ProfileOptions(budget_s=budget), out, bar)
    if not profile.complete or profile.failed:
        return show(profile, out, output)
    say(profile, output)
    output.say(f"Written to {out}: profile.json, report.html and its pictures\n")
    options = DemoOptions(target=target, window_s=window)
    with progress("2/2  Serving it, batching off and on", 2 * len(options.loads)) as bar:
        comparison = compare_served(profile, out, options, bar)
    return _conclude(profile, comparison, out, output)


def _conclude(profile: Profile, comparison: Comparison, out: Path, output: Output) -> int:
    from carpool.verify.compare import verdict
    from carpool.verify.report import sentences, side_by_side, write_page

    if not comparison.off:
        output.note("stopped before both servers had the same load: there is nothing to compare")
        return INTERRUPTED
    output.table(side_by_side(comparison))
    output.say(f"\n{verdict(comparison)[1]}")
    for sentence in sentences(comparison):
        output.say(f"- {sentence}")
    footer = f"Measured on {profile.machine.device_name}, {profile.machine.platform}, {profile.created_at}."
    written = write_page(comparison, profile.name, out, footer)
    output.say(f"Written to {out}: {', '.join(path.name for path in written)}")
    output.result_line(_figures(profile, comparison))
    return INTERRUPTED if comparison.interrupted else 0


def _figures(profile: Profile, comparison: Comparison) -> dict[str, float]:
    assert profile.knee is not None, "without a knee nothing was served"
    assert profile.cost_model is not None, "a knee comes from a fit"
    return {
        "speedup_goodput": round(comparison.speedup_goodput, 3),
        "p50_cost_low_load_ms": round(comparison.p50_cost_low_load_s * 1e3, 3),
        "knee_batch_size": profile.knee.batch_size,
        "fit_error_pct": round(profile.cost_model.error_pct, 2),
    }
