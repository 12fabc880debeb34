"""`carpool bench`: load a server, and say what it sustained, how long it took, and whether to believe that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from carpool.cli.certificates import ca_option, trusting
from carpool.cli.main import INTERRUPTED
from carpool.cli.options import DURATION, OBJECTIVE, RATE, json_option
from carpool.cli.workload_options import arrival_options
from carpool.errors import ConfigError
from carpool.signals.objective import Objective
from carpool.units import format_duration

if TYPE_CHECKING:
    from carpool.cli.output import Output
    from carpool.loadgen.generator import Progress
    from carpool.loadgen.http import Requests
    from carpool.loadgen.records import LoadResult
    from carpool.loadgen.run import ClosedLoad, Load
    from carpool.loadgen.stats import Summary
    from carpool.plan.arrivals import Times

DEFAULT_DURATION_S = 30.0
NOTE_EVERY_S = 5.0

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """The options of `carpool bench` as they were given; None where left out."""

    rate: float | None
    duration: float | None
    num_requests: int | None
    workload: dict[str, Any]
    connections: int | None
    objective: Objective | None
    timeout: float
    max_in_flight: int
    model: str | None
    api: str | None
    data: Path | None
    headers: tuple[str, ...]
    ca: Path | None
    seed: int
    out: Path | None

    def check(self) -> None:
        """Refuse combinations that contradict each other.

        Raises:
            ConfigError: Two loops at once, or none.
        """
        trace = self.workload.get("workload.trace")
        loops = [
            flag
            for flag, given in (("--rate", self.rate), ("--trace", trace), ("--connections", self.connections))
            if given is not None
        ]
        if len(loops) != 1:
            said = " and ".join(loops) if loops else "none of them"
            raise ConfigError(f"the load needs one of --rate, --trace and --connections, not {said}: give --rate 200")
        if self.connections is not None and self.workload:
            key = next(iter(self.workload)).removeprefix("workload.").replace("_", "-")
            raise ConfigError(
                f"--{key} shapes an open loop, and --connections is a closed one: leave out one of the two"
            )


@click.command(
    epilog="Example: carpool bench http://127.0.0.1:8000 --rate 200 --duration 30s --objective p99=50ms --out out/bench"
)
@click.argument("url")
@click.option("--rate", type=RATE, help="Open loop: requests a second on average, whatever becomes of the answers.")
@click.option("--duration", type=DURATION, help="How long to send.  [default: 30s, or the whole trace]")
@click.option("--requests", "num_requests", type=click.IntRange(min=1), help="Stop after this many, if that is sooner.")
@arrival_options
@click.option("--connections", type=click.IntRange(min=1), help="Closed loop: clients that wait for each answer.")
@click.option("--objective", type=OBJECTIVE, help="A latency to keep, such as p99=50ms; gives the goodput.")
@click.option("--timeout", type=DURATION, default="10s", show_default=True, help="Longest wait for an answer.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    default=4096,
    show_default=True,
    help="Most unanswered requests; what goes beyond is counted as failed.",
)
@click.option("--model", help="Which of the server's models.  [default: its only one]")
@click.option("--api", type=click.Choice(["oip", "openai"]), help="What to speak.  [default: what the server does]")
@click.option("--data", type=FILE, help="Bodies to send, one JSON document a line; URL is then the full one.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent with each; may be repeated.")
@ca_option
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of arrivals and bodies.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Write requests, summary, plots here.")
@json_option
def bench(url: str, output: Output, **given: Any) -> int:
    """Load the server at URL and report its rate, latency and goodput.

    URL is a server (its models are asked for), or a full path with --data. In an open loop each request is timed from
    when it was meant to be sent, so a server that stalls is charged for everyone who would have waited.

    Exits 0 when requests were answered, 1 when none was, 2 on wrong use, 130 when stopped, results kept.
    """
    options = BenchOptions(**given)
    options.check()
    schedule = _schedule(options) if options.connections is None else None
    if options.out is not None:
        _make(options.out)
    load = _load(_requests(url, options), options, schedule)
    result = _measure(load, output)
    return _report(url, result, options, output)


def _requests(url: str, options: BenchOptions) -> Requests:
    """Settle what is sent."""
    from carpool.loadgen.bodies import read_bodies
    from carpool.loadgen.clock import run_in_loop
    from carpool.loadgen.discover import discover, is_bare
    from carpool.loadgen.http import Requests, check_url

    check_url(url)
    headers, trusted = _headers(options.headers), None if options.ca is None else trusting(options.ca)
    if options.data is not None:
        return Requests(url, read_bodies(options.data), headers, trusted)
    if not is_bare(url):
        raise ConfigError(f"{url} names a path, and nothing says what to send there: add --data FILE, or drop the path")
    return run_in_loop(
        discover(url, model=options.model, api=options.api, seed=options.seed, headers=headers, trusted=trusted)
    )


def _headers(given: tuple[str, ...]) -> dict[str, str]:
    """Read `Name: value` pairs."""
    headers = {"Content-Type": "application/json"}
    for text in given:
        name, colon, value = text.partition(":")
        if not (colon and name.strip().isascii() and name.strip()) or any(ord(char) < ord(" ") for char in text):
            raise ConfigError(f"{text!r} is not a header: write a name, a colon and a value on one line")
        headers[name.strip()] = value.strip()
    return headers


def _load(requests: Requests, options: BenchOptions, schedule: tuple[Times, float] | None) -> Load | ClosedLoad:
    """Settle how it is sent; without a schedule it is a closed loop."""
    from carpool.loadgen.run import ClosedLoad, Load

    if schedule is None:
        assert options.connections is not None, "check() lets only one of the loops through"
        return ClosedLoad(
            requests=requests,
            connections=options.connections,
            duration_s=options.duration or DEFAULT_DURATION_S,
            timeout_s=options.timeout,
            num_requests=options.num_requests,
        )
    times, duration_s = schedule
    if options.num_requests is not None and options.num_requests < len(times):
        duration_s = float(times[options.num_requests])
        times = times[: options.num_requests]
    return Load(
        requests=requests,
        arrivals=times,
        duration_s=duration_s,
        timeout_s=options.timeout,
        max_in_flight=options.max_in_flight,
    )


def _schedule(options: BenchOptions) -> tuple[Times, float]:
    """Draw up an open loop's arrivals, and the length of the schedule in seconds."""
    import numpy as np

    from carpool.config.settings import load_settings
    from carpool.plan.process import Replay
    from carpool.plan.workload_table import arrivals_of

    settings = load_settings(flags={**options.workload, "workload.rate": options.rate})
    arrivals = arrivals_of(settings.workload)
    if isinstance(arrivals, Replay):
        trace = arrivals.trace.window(duration_s=options.duration)
        return trace.times_s, trace.duration_s
    duration_s = options.duration or DEFAULT_DURATION_S
    times, _ = arrivals.draw(np.random.default_rng(options.seed), duration_s)
    return times, duration_s


def _measure(load: Load | ClosedLoad, output: Output) -> LoadResult:
    """Send the load, telling how far it is."""
    from carpool.loadgen.run import blocking

    length = format_duration(load.duration_s)
    # Plain lines now and then: a bar that redraws itself would take the very thread that must send in time.
    output.note(f"Sending to {load.requests.url} for {length}; Ctrl-C stops it and keeps what was measured.")
    every_s = max(NOTE_EVERY_S, load.duration_s / 20)
    due_s = every_s

    def watch(progress: Progress) -> None:
        nonlocal due_s
        if progress.elapsed_s >= due_s:
            due_s = progress.elapsed_s + every_s
            output.note(
                f"{progress.elapsed_s:5.0f} s  {progress.num_done:,} done, {progress.num_failed:,} failed, "
                f"{progress.in_flight:,} in flight"
            )

    return blocking(load, watch=watch)


def _report(url: str, result: LoadResult, options: BenchOptions, output: Output) -> int:
    """Print and write what the run amounts to."""
    from carpool.loadgen.report import failure_table, sentences_about, summary_table
    from carpool.loadgen.stats import summarise

    summary = summarise(result, options.objective, asked_rate=options.rate)
    output.table(summary_table(summary))
    if summary.failures:
        output.table(failure_table(summary))
    for sentence in sentences_about(summary):
        output.say(sentence)
    document = {"schema_version": 1, "url": url, **as_document(summary)}
    output.result(document)
    if options.out is not None:
        names = _write(options.out, result, summary, document)
        output.say(f"Written to {options.out}: {', '.join(names)}")
    if summary.interrupted:
        return INTERRUPTED
    return 0 if summary.num_ok else 1


def as_document(summary: Summary) -> dict[str, Any]:
    """Give a summary as plain data."""
    import dataclasses

    return {field.name: getattr(summary, field.name) for field in dataclasses.fields(summary)}


def _make(out: Path) -> None:
    """Make the directory that `--out` names, before anything is measured.

    Raises:
        ConfigError: It can't be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from None


def _write(out: Path, result: LoadResult, summary: Summary, document: dict[str, Any]) -> list[str]:
    """Fill the directory that `--out` names, and give the names of the files.

    Raises:
        ConfigError: It can't be written to.
    """
    from carpool.cli.output import to_json
    from carpool.loadgen.files import write_requests
    from carpool.loadgen.report import picture

    try:
        write_requests(out / "requests.csv", result)
        (out / "summary.json").write_text(to_json(document) + "\n", encoding="utf-8")
        if summary.latency_s:
            picture(result, summary).save(out / "latency.png")
    except OSError as error:
        raise _unwritable(out, error) from None
    return ["requests.csv", "summary.json", *(["latency.png"] if summary.latency_s else [])]


def _unwritable(out: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{out} can't be written to ({error}): name another directory with --out")
