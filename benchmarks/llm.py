"""Carpool's LLM engine beside others, in one run: tokens a second, goodput under load, and the distance to the limit.

SmolLM2-135M in bfloat16 on all cores. A step of decoding reads all weights, 269 MB, whatever the number of sequences:
one sequence alone goes at the pace of the memory, and many at the pace of the matrix products. What an engine adds is
all that is not one of these two: attention that computes what nobody asked for, work in Python between kernels, steps
that run half empty, prompts that make others wait.

*All at once*: 96 requests with lognormal lengths, 12,851 prompt tokens of random ids and 8,944 output tokens, at most
64 sequences at a time, greedily; end tokens end nothing, so that every engine makes exactly as many tokens. Then one
request alone. *Poisson load*: requests of the same kind at random times through each engine's asynchronous interface,
driven by the same generator in the engine's process, at shares of the best engine's own pace; a request is in time
whose first token came within 1 s and whose others within 150 ms each on average. Nobody's prefix cache is on: the
prompts share nothing.

Every visit is a process of its own in the engine's environment, started and warmed before the clock runs. The engines
take turns, round after round, so that a machine that slows down slows all of them; ratios are taken within a round, and
their medians shown. The limit is measured in every round (see `rig.llm.limit`). At the end the tokens themselves are
held against the model in float32 (see `rig.llm.answers`).

    python benchmarks/llm.py [--only carpool,vllm] [--jobs batch] [--rounds 3] [--requests 96] [--keep FILE] [--write]
    python benchmarks/llm.py --only carpool,openvino --jobs batch --rounds 1 --requests 24   # a quick look

All of it takes about an hour, most of it the slowest peers'. With --keep FILE what has been measured is kept there, and
a run that was interrupted goes on where it was. With --write it fills its section of benchmarks/README.md and draws
docs/images/llm.png.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rig.about import machine, names, replace
from rig.llm.answers import Agreement, agreements
from rig.llm.contenders import CONTENDERS
from rig.llm.model import model_directory, shape_of
from rig.llm.report import picture, section, tables
from rig.llm.results import Results, Round, ratios
from rig.llm.visits import visit_batch, visit_load
from rig.llm.work import NUM_REQUESTS, Loop, loop, num_output, requests

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS = Path(__file__).parent
PICTURE = BENCHMARKS.parent / "docs/images/llm.png"
JOBS = ("batch", "load")


class Run:
    """Measures what is not measured yet, and keeps it.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rounds = [Round() for _ in range(arguments.rounds)]
        self.loops: list[Loop] = []
        self._arguments = arguments
        if arguments.keep and arguments.keep.exists():
            self._resume(json.loads(arguments.keep.read_text(encoding="utf-8")))

    def measure(self) -> None:
        """Take all rounds."""
        for number, one in enumerate(self.rounds):
            if not one.limit:
                one.limit = measure_limit()
                self._keep()
            for engine in self._turn(number):
                self._visit_batch(one, engine)
            self.loops = self.loops or self._plan_loops()
            for engine in self._turn(number):
                self._visit_load(one, engine)

    def _turn(self, number: int) -> list[str]:
        """Let another engine go first in every round."""
        engines: list[str] = self._arguments.only
        first = number % len(engines)
        return engines[first:] + engines[:first]

    def _visit_batch(self, one: Round, engine: str) -> None:
        if "batch" not in self._arguments.jobs or engine in one.batch:
            return
        found = one.batch[engine] = visit_batch(engine, self._arguments.requests)
        self._keep()
        pace = num_output(requests(self._arguments.requests)) / found["batch"]["seconds"]
        print(f"{CONTENDERS[engine].label}: {pace:,.1f} output tokens/s, all at once", flush=True)

    def _visit_load(self, one: Round, engine: str) -> None:
        if "load" not in self._arguments.jobs or engine in one.load or not CONTENDERS[engine].online:
            return
        found = one.load[engine] = visit_load(engine, self.loops)
        self._keep()
        finished = [sum(map(len, records)) for records in found["loops"]]
        asked = [num_output(planned.requests) for planned in self.loops]
        shares = ", ".join(f"{got / wanted:.0%}" for got, wanted in zip(finished, asked, strict=False))
        print(f"{CONTENDERS[engine].label}: {shares} of the tokens came, under rising load", flush=True)

    def _plan_loops(self) -> list[Loop]:
        """Draw loops at shares of the pace of the best engine, or at the rates given."""
        if "load" not in self._arguments.jobs:
            return []
        rates = self._arguments.rates or [share * self._best_pace() for share in self._arguments.shares]
        return [loop(rate, self._arguments.seconds, number) for number, rate in enumerate(sorted(rates))]

    def _best_pace(self) -> float:
        """Requests a second of the engine that was fastest with all of them at once."""
        num: int = self._arguments.requests
        paces: list[float] = [num / visit["batch"]["seconds"] for visit in self.rounds[0].batch.values()]
        if not paces:
            sys.exit(
                "the load is a share of what the best engine reached with all requests at once: add batch to "
                "--jobs, or give --rates"
            )
        return max(paces)

    def _keep(self) -> None:
        if self._arguments.keep:
            written = {"settings": self._settings(), "rounds": [asdict(one) for one in self.rounds]}
            document = written | {"loops": [asdict(one) for one in self.loops]}
            self._arguments.keep.write_text(json.dumps(document), encoding="utf-8")

    def _resume(self, kept: dict[str, Any]) -> None:
        if kept["settings"] != self._settings():
            sys.exit(f"{self._arguments.keep} was measured with {kept['settings']}: name another file, or ask the same")
        found = [Round(**one) for one in kept["rounds"]]
        self.rounds[: len(found)] = found
        self.loops = [Loop(**one) for one in kept["loops"]]

    def _settings(self) -> dict[str, Any]:
        """What must be the same for measurements to be put together."""
        return {name: getattr(self._arguments, name) for name in ("requests", "seconds", "shares", "rates")}


def measure_limit() -> dict[str, Any]:
    """Measure the machine, in a process of its own."""
    command = [sys.executable, "-m", "rig.llm.limit"]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_answers(run: Run, num_requests: int) -> dict[str, Agreement]:
    """Hold the tokens of the last round that has an engine's against the model."""
    given = {engine: visit["batch"]["tokens"] for one in run.rounds for engine, visit in one.batch.items()}
    if not given:
        return {}
    found = agreements(model_directory(), requests(num_requests), given)
    for engine, agreement in found.items():
        if not agreement.plausible:
            print(f"{CONTENDERS[engine].label} gave tokens that the model would not: {agreement}", flush=True)
    return found


def numbers(text: str) -> list[float]:
    """Read numbers above 0, by commas."""
    found = [float(part) for part in text.split(",")]
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{min(found):g} is not above 0")
    return found


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Carpool's LLM engine beside others.")
    parser.add_argument("--only", type=names(CONTENDERS), default=list(CONTENDERS), help="engines, by commas")
    parser.add_argument("--jobs", type=names(dict.fromkeys(JOBS)), default=list(JOBS), help="batch,load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=NUM_REQUESTS, help="of the batch")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load")
    parser.add_argument("--shares", type=numbers, default=[0.3, 0.6, 0.9], help="loads, of the best engine's pace")
    parser.add_argument("--rates", type=numbers, help="loads in requests a second, instead")
    parser.add_argument("--keep", type=Path, help="a file that measurements are kept in, and taken from")
    parser.add_argument("--write", action="store_true", help="fill the section of README.md, and draw the picture")
    return parser.parse_args()


def main() -> None:
    """Measure, print tables and one line of JSON."""
    arguments = read_arguments()
    for engine in arguments.only:
        CONTENDERS[engine].model()
    about = machine()
    print(about, flush=True)
    run = Run(arguments)
    run.measure()
    results = Results(
        rounds=run.rounds,
        shape=shape_of(model_directory()),
        num_requests=arguments.requests,
        loops=run.loops,
        seconds=arguments.seconds,
        agreements=check_answers(run, arguments.requests),
    )
    report(results, about, write=arguments.write)


def plain_figures(results: Results) -> dict[str, dict[str, float]]:
    """Give what the ratios are of, by engine: medians."""
    gets = {
        "output_tokens_per_s": results.rate,
        "batch_1_tokens_per_s": results.single_rate,
        "goodput_per_s": results.goodput,
    }

    def medians(get: Callable[[Round, str], float | None]) -> dict[str, float]:
        found = {engine: results.median(_of(get, engine)) for engine in results.engines()}
        return {engine: round(value, 2) for engine, value in found.items() if value is not None}

    return {name: medians(get) for name, get in gets.items()}


def _of(get: Callable[[Round, str], float | None], engine: str) -> Callable[[Round], float | None]:
    return lambda one: get(one, engine)


def report(results: Results, about: str, *, write: bool) -> None:
    """Print what was found, and keep it where asked."""
    console = Console(width=None if sys.stdout.isatty() else 170)
    for table in tables(results):
        console.print(table.to_rich())
    found = ratios(results)
    if write:
        replace(BENCHMARKS / "README.md", "llm.py", section(results, found, about))
        if results.loops:
            picture(results).save(PICTURE)
    rounded = {name: None if value is None else round(value, 3) for name, value in found.items()}
    print(json.dumps({**rounded, **plain_figures(results), "machine": about}))


if __name__ == "__main__":
    main()
