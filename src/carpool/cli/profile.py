"""`carpool profile`: measure what batching buys on a model and this machine, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carpool.cli.main import INTERRUPTED
from carpool.cli.options import BATCH_SIZES, BYTES, CHUNKS, DURATION, LENGTHS, json_option, require_room
from carpool.errors import ConfigError
from carpool.models.generator import is_generator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carpool.cli.output import Output
    from carpool.profile.artefact import Profile
    from carpool.profile.llm_artefact import LlmProfile
    from carpool.profile.options import ProfileOptions
    from carpool.report.table import Table


@click.command(
    epilog="Example: carpool profile demo:minilm --batch-sizes 1..64 --lengths 32,128 --budget 60s --out out"
)
@click.argument("target")
@click.option("--batch-sizes", type=BATCH_SIZES, default="1..256", show_default=True, help="Such as 1,2,4 or 1..256.")
@click.option(
    "--lengths",
    type=LENGTHS,
    default=(),
    help="Tokens of an item, such as 16,64, or of a sequence in the cache.  [default: what suits the model]",
)
@click.option(
    "--chunks", type=CHUNKS, default=(), help="Of what generates: tokens of a prompt in a step, as in 32,512."
)
@click.option("--device", help="Such as cpu or cuda:0.  [default: the accelerator where there is one]")
@click.option("--dtype", help="float32, bfloat16 or float16.  [default: what suits the device]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one operation on a CPU.")
@click.option("--budget", type=DURATION, default="45s", show_default=True, help="About how long to measure.")
@click.option("--memory-limit", type=BYTES, help="Most memory that a batch, or a KV cache, may need, such as 8GiB.")
@click.option("--memory/--no-memory", default=True, show_default=True, help="Probe memory, in processes of their own.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of items and of the order.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("out"),
    show_default=True,
    help="Where to write profile.json, report.html and the pictures.",
)
@json_option
def profile(target: str, out: Path, output: Output, **given: Any) -> int:
    """Measure TARGET over batch sizes and lengths: time, memory, where the time goes, and whether results change.

    TARGET is file.py:name, package.module:name, a Hugging Face directory, a .onnx file, demo:minilm (real weights) or
    demo:null (only waits). Of one that generates text (a causal language model's directory, a .gguf file, demo:smollm2)
    steps are measured: sequences that get a token each, pieces of prompts, and both together.

    Exits 0 when all was measured, 1 when the model failed, 2 on wrong use, 130 when stopped, results kept.
    """
    from carpool.profile.options import FLAGS, ProfileOptions

    require_room(out)
    names = {flag.replace("-", "_"): name for name, flag in FLAGS.items()}
    options = ProfileOptions(out=out, **{names.get(name, name): value for name, value in given.items()})
    if is_generator(target):
        return _profile_generator(target, options, output)
    if options.chunks:
        raise ConfigError(f"--chunks are of prompts, and {target} generates nothing: leave them out")
    measured = _measure(target, options)
    return show(measured, out, output)


def _measure(target: str, options: ProfileOptions) -> Profile:
    """Measure with a progress bar on standard error."""
    from carpool.profile.run import profile_target
    from carpool.report.progress import progress

    with progress(f"Profiling {target}", options.budget_s, unit="s") as bar:
        return profile_target(target, options, bar)


def _profile_generator(target: str, options: ProfileOptions, output: Output) -> int:
    """Measure a model that generates, with a progress bar on standard error, and print and write what was found."""
    from carpool.profile.llm_report import write_report
    from carpool.profile.llm_run import profile_generator
    from carpool.profile.llm_tables import tables
    from carpool.report.progress import progress

    with progress(f"Profiling {target}", options.budget_s, unit="s") as bar:
        measured = profile_generator(target, options, bar)
    _say(measured, tables(measured), output)
    output.result(measured)
    return _written(measured, write_report(measured, options.out), options.out, output)


def show(measured: Profile, out: Path, output: Output) -> int:
    """Print and write a profile, and return the exit code that it stands for."""
    from carpool.profile.report import write_report

    say(measured, output)
    output.result(measured)
    return _written(measured, write_report(measured, out), out, output)


def _written(measured: Profile | LlmProfile, written: list[Path], out: Path, output: Output) -> int:
    """Name what was written, and return the exit code."""
    output.say(f"Written to {out}: {', '.join(path.name for path in written)}")
    if not measured.complete:
        return INTERRUPTED
    return 1 if measured.failed else 0


def say(measured: Profile, output: Output) -> None:
    """Print a profile: first whether to believe it, then its tables, and what they mean in words."""
    from carpool.profile.report import tables

    _say(measured, tables(measured), output)


def _say(measured: Profile | LlmProfile, tables: Iterable[Table], output: Output) -> None:
    from carpool.profile.trust import headline

    if not measured.trust.trusted:
        output.say(click.style(f"{headline(measured.trust).upper()}:", fg="red", bold=True))
        for reason in measured.trust.reasons:
            output.say(f"- {reason}")
        output.say(f"To mend that, {measured.trust.remedy}.\n")
    for table in tables:
        output.table(table)
        output.say()
    for sentence in measured.sentences:
        output.say(f"- {sentence}")
