"""The same generations served in other ways: none, static and continuous batching, more and less hardware."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carpool.plan.llm_predict import LlmPrediction, LlmScene
from carpool.plan.llm_search import capacity, longest_prompt, means_of
from carpool.plan.llm_setup import LlmSetup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FASTER = 0.5  # times as long, on a device twice as fast
# Shares of what a setup can carry at most.
_LOADS = (0.15, 0.35, 0.55, 0.7, 0.85, 0.95)
_RUNS_AT_A_LOAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRow:
    """One way to serve the load.

    Args:
        name: What is done.
        setup: The policy, the memory and the workers.
        chosen: Whether it is the plan.
        prediction: What it would do; None where nothing is answered.
        assumes: What has to be true for it; empty for nothing beyond the plan's own.
    """

    name: str
    setup: LlmSetup
    chosen: bool = False
    prediction: LlmPrediction | None
    assumes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmFrontierPoint:
    """A setup under one load.

    Args:
        label: What the setup is called in a legend.
        rate: Requests a second that arrive.
        prediction: What it would do.
    """

    label: str
    rate: float
    prediction: LlmPrediction


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    name: str
    setup: LlmSetup
    slowdown: float = 1.0
    assumes: str = ""


def what_if_llm(
    scene: LlmScene, chosen: LlmSetup, num_runs: int, *, watch: Callable[[str], object] = lambda _: None
) -> tuple[LlmRow, ...]:
    """Predict the plan's neighbours: less, more and other than it, one change at a time.

    Args:
        scene: The windows that every row is simulated in, the plan's too.
        chosen: The plan.
        num_runs: How many windows.
        watch: Told the name of each row before it is simulated.
    """
    rows = []
    for choice in _choices(scene, chosen, num_runs):
        watch(choice.name)
        prediction = replace(scene, slowdown=choice.slowdown).predict(choice.setup, num_runs)
        rows.append(
            LlmRow(
                name=choice.name,
                setup=choice.setup,
                chosen=choice.setup == chosen and choice.slowdown == 1.0,
                prediction=prediction if prediction.is_finite else None,
                assumes=choice.assumes,
            )
        )
    return tuple(rows)


def _choices(scene: LlmScene, chosen: LlmSetup, num_runs: int) -> Iterator[_Choice]:
    """Give every way to serve the load that the table compares."""
    policy = chosen.policy
    longest = longest_prompt(scene, num_runs)
    whole = replace(policy, chunked_prefill=False, prefix_caching=False, token_budget=max(policy.token_budget, longest))
    pieces = replace(policy, prefix_caching=False)
    yield _Choice(name="no batching", setup=replace(chosen, policy=replace(policy, num_slots=1)))
    yield _Choice(
        name="static batching",
        setup=replace(chosen, static=True),
        assumes="prompts padded to the longest, a batch ends with its longest answer, tokens sent as they come",
    )
    yield _Choice(
        name="continuous batching",
        setup=replace(chosen, policy=whole),
        assumes=f"each prompt in one step, of up to {whole.token_budget:,} tokens",
    )
    yield _Choice(name="and prompts in pieces", setup=replace(chosen, policy=pieces))
    yield _Choice(name="and prefix caching", setup=chosen)
    blocks = chosen.num_blocks
    yield _Choice(name="half the KV memory", setup=replace(chosen, num_blocks=max(1, blocks // 2)))
    yield _Choice(name="twice the KV memory", setup=replace(chosen, num_blocks=2 * blocks))
    workers = chosen.num_workers + 1
    yield _Choice(
        name=f"{'a second' if workers == 2 else 'another'} worker",  # noqa: PLR2004 - the word for two
        setup=replace(chosen, num_workers=workers),
        assumes="as fast beside the first as that is alone; requests go to them in turn",
    )
    yield _Choice(
        name="a device twice as fast", setup=chosen, slowdown=_FASTER, assumes="every step takes half the time"
    )


def frontier_llm(
    scene: LlmScene, chosen: LlmSetup, *, watch: Callable[[str], object] = lambda _: None
) -> tuple[LlmFrontierPoint, ...]:
    """Predict the plan beside static batching and none, from little load to nearly all that each carries.

    Args:
        scene: Short windows.
        chosen: The plan.
        watch: Told what is being looked at.
    """
    prompt, output = means_of(scene)
    named = {
        "the plan": chosen,
        "static batching": replace(chosen, static=True),
        "no batching": replace(chosen, policy=replace(chosen.policy, num_slots=1)),
    }
    points = []
    for label, setup in named.items():
        watch(f"times over the load: {label}")
        most = capacity(scene.subject, setup, prompt, output)
        # What the longest answers of a batch cost hangs on how lengths are spread: see what it does with too much.
        if setup.static:
            most = _at_rate(scene, most).figures(setup, 0).throughput or most
        for rate in (share * most for share in _LOADS):
            prediction = _at_rate(scene, rate).predict(setup, _RUNS_AT_A_LOAD)
            if prediction.is_finite:
                points.append(LlmFrontierPoint(label=label, rate=rate, prediction=prediction))
    return tuple(points)


def _at_rate(scene: LlmScene, rate: float) -> LlmScene:
    """Return the scene with so many requests a second, in windows of as many requests."""
    factor = rate / scene.load.rate
    return replace(scene, load=scene.load.scaled(factor), window_s=scene.window_s / factor)
