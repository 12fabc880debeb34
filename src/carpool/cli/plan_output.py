"""What plans of both kinds share on the command line: their progress, their tables, and the files beside each other."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from carpool.cli.output import Output
    from carpool.cli.plan_source import LlmSource, Source
    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.plan import Plan
    from carpool.report.table import Table

NUM_STEPS = 16  # about: what a plan looks at depends on what it finds


@contextmanager
def watching(title: str) -> Iterator[Callable[[str], None]]:
    """Show a progress bar on standard error, and give what is told each step's name."""
    from carpool.report.progress import progress

    with progress(title, NUM_STEPS, unit="steps") as bar:
        steps = 0

        def watch(what: str) -> None:
            nonlocal steps
            steps += 1
            bar.expect(max(NUM_STEPS, steps + 1))
            bar.note(what)
            bar.advance()

        yield watch
        bar.expect(steps)


def say_tables(made: Plan | LlmPlan, tables: Iterable[Table], output: Output) -> None:
    """Print tables of a plan, and then what it means in words."""
    for table in tables:
        output.table(table)
        output.say()
    for sentence in made.sentences:
        output.say(f"- {sentence}")
    for doubt in made.doubts:
        output.say(f"- Mind: {doubt}")


def say_written(made: Plan | LlmPlan, written: Iterable[Path], out: Path, output: Output) -> int:
    """Name the files of a plan, and return the exit code that it stands for."""
    from carpool.plan.slo import Verdict

    names = ", ".join(path.name for path in written)
    output.say(f"Written to {out.parent}: {names}; serve it with carpool serve {out}")
    return 1 if made.verdict is Verdict.MISSED else 0


def write_beside(
    out: Path, text: str, source: Source | LlmSource, write_page: Callable[[str, str], list[Path]]
) -> list[Path]:
    """Write settings, and a page beside them.

    Args:
        out: The file of the settings.
        text: Its content.
        source: What it was made from.
        write_page: Writes the page, told its footer and what its files' names begin with.

    Raises:
        ConfigError: They can't be written there.
    """
    from carpool.config.atomic import write_bytes

    write_bytes(out, text.encode())
    machine = source.profile.machine
    footer = (
        f"Simulated from {source.path.name}, measured on {machine.device_name}, {machine.num_cores} cores, "
        f"{machine.platform}, {source.profile.created_at}."
    )
    try:
        # Several plans in one folder keep a page each; `report.html` there is the profile's.
        return [out, *write_page(footer, "plan" if out.stem in {"carpool", "report"} else out.stem)]
    except OSError as error:
        raise ConfigError(f"the page can't be written beside {out} ({error}): name another place with --out") from None
