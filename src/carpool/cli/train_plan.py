"""`carpool train-plan`: find the micro-batch that fits, and what each effective batch would take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from carpool.cli.options import BATCH_SIZES, BYTES, DURATION, Parsed, json_option, require_room
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from carpool.cli.output import Output
    from carpool.train.planning.plan import TrainPlan

TIMING_S = 5.0
LONGEST_NAME = 255  # bytes of a file's name, on every usual file system
NUM_STEPS = 14  # about: how many micro-batches are tried depends on what they need


def parse_noise(text: str) -> float | Literal["measure"]:
    """Read a noise scale in items, or the word that has it measured.

    Raises:
        ConfigError: It is neither.
    """
    if text == "measure":
        return "measure"
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.0 < scale < float("inf"):
        raise ConfigError(f"{text!r} is no noise scale: give a number of items above 0, such as 400, or measure")
    return scale


@click.command(epilog="Example: carpool train-plan examples/train_digits.py:setup --effective-batch 1024 --memory 2GiB")
@click.argument("target")
@click.option(
    "--effective-batch", type=click.IntRange(1, 1 << 30), required=True, help="Items of a step of the optimiser."
)
@click.option(
    "--memory", type=BYTES, help="Most that a rank may hold, such as 2GiB.  [default: what the machine leaves]"
)
@click.option(
    "--ranks", type=click.IntRange(1, 1 << 16), default=1, show_default=True, help="Processes that train together."
)
@click.option(
    "--batches", type=BATCH_SIZES, default="32..4096", show_default=True, help="Effective batches to compare."
)
@click.option(
    "--base-batch",
    type=click.IntRange(1, 1 << 30),
    help="Effective batch that the optimiser's rates were chosen for.  [default: what the setup says]",
)
@click.option("--base-steps", type=click.IntRange(min=1), help="Steps to your target with it: times are then absolute.")
@click.option(
    "--noise-scale",
    type=Parsed("items", parse_noise),
    help="In items, or measure: train a while and see.  [default: none]",
)
@click.option(
    "--budget",
    type=DURATION,
    default="20s",
    show_default=True,
    help="How long to measure the noise scale, or times, at most.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    default=Path("out/train-plan.html"),
    show_default=True,
    help="The page to write; its pictures go beside it.",
)
@json_option
def train_plan(target: str, html: Path, output: Output, **given: Any) -> int:
    """Find the largest micro-batch of TARGET that fits in memory, and what each effective batch would take.

    TARGET is file.py:setup or package.module:setup, a function that returns a carpool.train.TrainSetup. Training steps
    are really made, on the CPU in processes of their own. Told are the micro-batch and the accumulation, the predicted
    time of a step and of an epoch, the memory, the hyper-parameters for that effective batch, and, where the noise
    scale is known, which batch reaches a target first.

    Exits 0 when there is a plan, 1 when training fails or does not fit, 2 on wrong use.
    """
    from carpool.train.planning.assemble import TrainPlanOptions

    html = html.absolute()  # the setup may go to another directory
    require_page(html)
    options = TrainPlanOptions(
        effective_batch_size=given["effective_batch"],
        batch_sizes=given["batches"],
        num_ranks=given["ranks"],
        memory_bytes=given["memory"],
        base_batch_size=given["base_batch"],
        base_steps=given["base_steps"],
        noise=given["noise_scale"],
        noise_budget_s=given["budget"],
        timing_budget_s=min(TIMING_S, given["budget"]),
    )
    made = _make(target, options)
    say(made, output)
    output.result(made)
    written = write(made, html)
    output.say(f"Written to {html.parent}: {', '.join(path.name for path in written)}")
    return 0


def require_page(html: Path) -> None:
    """Refuse a place that no page can be written to, before anything is measured for it.

    Raises:
        ConfigError: It is a directory, has another ending, or its directory can't be made or filled.
    """
    require_room(html.parent, option="the directory of --html")
    if html.suffix != ".html" or len(os.fsencode(html.name)) > LONGEST_NAME or html.is_dir():
        raise ConfigError(f"--html {html} must name a file that ends in .html, such as {Path('out/train-plan.html')}")


def _make(target: str, options: Any) -> TrainPlan:
    """Make the plan with a progress bar on standard error."""
    from carpool.report.progress import progress
    from carpool.train.planning.make import plan_training

    with progress(f"Planning training of {target}", NUM_STEPS, unit="steps") as bar:
        steps = 0

        def watch(what: str) -> None:
            nonlocal steps
            steps += 1
            bar.expect(max(NUM_STEPS, steps + 1))
            bar.note(what)
            bar.advance()

        made = plan_training(target, options, watch=watch)
        bar.expect(steps)
    return made


def say(made: TrainPlan, output: Output) -> None:
    """Print a plan: what each effective batch takes, the hyper-parameters, and what that means in words."""
    from carpool.train.planning.tables import scaling_table, trade_off_table

    for table in (trade_off_table(made), scaling_table(made)):
        if table is not None:
            output.table(table)
            output.say()
    for sentence in made.sentences:
        output.say(f"- {sentence}")
    for doubt in made.doubts:
        output.say(f"- Mind: {doubt}")


def write(made: TrainPlan, html: Path) -> list[Path]:
    """Write the page, and the pictures beside it.

    Raises:
        ConfigError: They can't be written there.
    """
    from carpool.profile.machine import describe_machine
    from carpool.train.planning.page import write_pages

    machine = describe_machine(made.micro_batch.device, "", None)
    footer = f"Measured on {machine.device_name}, {machine.num_cores} cores, {machine.platform}."
    try:
        return write_pages(made, html, footer)
    except OSError as error:
        raise ConfigError(f"the page can't be written to {html} ({error}): name another place with --html") from None
