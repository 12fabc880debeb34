"""What deciding an LLM's steps costs: the time of `plan` and `commit` together, with 256 sequences that run.

While a step is decided an accelerator may stand still, so this time bounds how small a model can be and still be kept
busy: a step of 10 ms hides 150 us, one of 1 ms does not. Nothing is computed here; a step's tokens are made up
beforehand. It is pure Python, so that what counts is how often anything is touched: a sequence that needs but its next
token costs a tuple, an addition and a comparison, and every `block_size` steps a new block and the digest of the full
one. What a sequence costs to add, the digests of its prompt included, is told beside it: that is done while a step
runs. Times are the processor's, of the one thread that there is, so that other programs disturb them less.

- decoding: every sequence needs one token, nobody comes or goes.
- mixed: sequences come and go as they would in service, so that each step also holds pieces of prompts.
- shared prefix: the same, and prompts begin with one of 8 texts of 512 tokens.
- tenants and objectives: the same, from 32 tenants, with objectives and a model of the step's time.
- pressure: the same with too few blocks, so that sequences are preempted.

    python benchmarks/llm_scheduler.py
"""

import gc
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np

from carpool.core.continuous import Continuous
from carpool.core.cost import LinearStepTime
from carpool.core.sequence import Sequence
from carpool.core.step import StepPlan
from carpool.core.step_policy import StepPolicy

NUM_RUNNING, TOKEN_BUDGET, BLOCK_SIZE, MAX_LENGTH = 256, 512, 16, 4096
NUM_STEPS, NUM_WARM_UP = 2_000, 300
LIMIT_US = 150
COST = LinearStepTime(step_s=0.010, token_s=0.0002, kv_s=1e-7, pair_s=1e-8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What comes.

    Args:
        mean_prompt: tokens of a prompt, on average.
        mean_output: tokens generated, on average.
        num_blocks: blocks in the cache.
        shared: tokens that a prompt has in common with an eighth of the others.
        num_tenants: who send them.
        objectives: each has one for the first token, and one between tokens.
        is_steady: sequences come and go; else 256 come, and stay.
    """

    mean_prompt: int
    mean_output: int
    num_blocks: int = 40_000
    shared: int = 0
    num_tenants: int = 1
    objectives: bool = False
    is_steady: bool = True


SCENARIOS = {
    "decoding": Scenario(mean_prompt=64, mean_output=0, is_steady=False),
    "mixed": Scenario(mean_prompt=128, mean_output=160),
    "shared prefix": Scenario(mean_prompt=128, mean_output=160, shared=512),
    "tenants and objectives": Scenario(mean_prompt=128, mean_output=160, num_tenants=32, objectives=True),
    "pressure": Scenario(mean_prompt=128, mean_output=160, num_blocks=3_000),
}


@dataclass(slots=True)
class Figures:
    """What a run cost."""

    add_s: list[float] = field(default_factory=list)
    plan_s: list[float] = field(default_factory=list)
    commit_s: list[float] = field(default_factory=list)
    num_rows: list[int] = field(default_factory=list)
    num_tokens: list[int] = field(default_factory=list)


def arrivals(scenario: Scenario) -> Iterator[Sequence]:
    """Return sequences without end."""
    rng = np.random.default_rng(0)
    prefixes = rng.integers(0, 32_000, (8, max(1, scenario.shared))).tolist()
    for number in range(1 << 30):
        length = max(2, int(rng.lognormal(np.log(scenario.mean_prompt), 0.5)))
        output = max(1, int(rng.exponential(scenario.mean_output))) if scenario.is_steady else MAX_LENGTH - length - 1
        shared = prefixes[number % 8] if scenario.shared else []
        sequence = Sequence(
            tokens=[*shared, *rng.integers(0, 32_000, length).tolist()],
            max_new_tokens=min(output, MAX_LENGTH - length - scenario.shared),
            tenant=str(number % scenario.num_tenants),
        )
        if scenario.objectives:
            sequence.token_interval_s = 0.150
        yield sequence


def new_tokens(plan: StepPlan) -> list[tuple[int, ...]]:
    """Return made-up answers, as a sampler hands them over."""
    return [(7,) if chunk.samples else () for chunk in plan.chunks]


def run(scenario: Scenario) -> tuple[Figures, Continuous]:
    """Run a scenario in virtual time; measure the steps that are full, or nearly."""
    policy = StepPolicy(num_slots=NUM_RUNNING, token_budget=TOKEN_BUDGET, block_size=BLOCK_SIZE)
    engine = Continuous(policy, num_blocks=scenario.num_blocks, max_length=MAX_LENGTH, time_model=COST)
    coming, figures, now = arrivals(scenario), Figures(), 0.0
    for step in range(NUM_WARM_UP + NUM_STEPS):
        while engine.num_waiting < 16 and (scenario.is_steady or engine.num_running + engine.num_waiting < NUM_RUNNING):
            sequence = next(coming)
            sequence.arrived_at = now
            sequence.first_token_by = now + 1.0 if scenario.objectives else sequence.first_token_by
            arrived = time.thread_time()
            engine.add(sequence, now)
            figures.add_s.append(time.thread_time() - arrived)
        began = time.thread_time()
        plan = engine.plan(now)
        planned = time.thread_time()
        assert plan is not None
        tokens = new_tokens(plan)
        now += COST.time_s(plan.work)
        computed = time.thread_time()
        engine.commit(plan, tokens, now)
        committed = time.thread_time()
        if step >= NUM_WARM_UP:
            figures.plan_s.append(planned - began)
            figures.commit_s.append(committed - computed)
            figures.num_rows.append(len(plan.chunks))
            figures.num_tokens.append(plan.work.num_tokens)
    engine.check_integrity()
    return figures, engine


def main() -> None:
    """Measure, print a table and one line of JSON."""
    gc.disable()  # its pauses are the program's, not the scheduler's
    columns = ("add", "plan", "commit", "both", "p99", "rows", "tokens", "hits", "preempted")
    print(f"{'us a step':26}" + "".join(f"{column:>10}" for column in columns))
    means: dict[str, float] = {}
    for name, scenario in SCENARIOS.items():
        figures, engine = run(scenario)
        plan, commit = (1e6 * np.array(times) for times in (figures.plan_s, figures.commit_s))
        means[name] = float(np.mean(plan + commit))
        hits = engine.prefix_hits / max(1, engine.prefix_queries)
        figures_us = (
            1e6 * np.mean(figures.add_s),
            plan.mean(),
            commit.mean(),
            means[name],
            np.quantile(plan + commit, 0.99),
        )
        print(
            f"{name:26}"
            + "".join(
                f"{value:10.1f}" for value in (*figures_us, np.mean(figures.num_rows), np.mean(figures.num_tokens))
            )
            + f"{hits:10.0%}{engine.num_preemptions:10}"
        )
        gc.collect()
    summary = {
        "us_a_step": {name: round(mean, 1) for name, mean in means.items()},
        "worst_us_a_step": round(max(means.values()), 1),
        "vs_limit": round(LIMIT_US / max(means.values()), 2),
        "num_running": NUM_RUNNING,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "carpool": version("carpool"),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
