"""Profiles a model that generates: loads it on a thread of its own, warms it up, and measures."""

from __future__ import annotations

from contextlib import ExitStack, chdir
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from carpool.core.step_policy import StepPolicy
from carpool.profile.budget import Budget
from carpool.profile.device import open_device
from carpool.profile.llm_session import LlmSession, shapes_of
from carpool.profile.llm_step import StepCaller
from carpool.profile.machine import describe_machine
from carpool.profile.options import ProfileOptions
from carpool.profile.peaks import measure_peaks
from carpool.profile.worker import OneThread
from carpool.report.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from carpool.llm.loaded import LoadedLM
    from carpool.llm.parts import Parts
    from carpool.profile.llm_artefact import LlmProfile


def profile_generator(
    target: str, options: ProfileOptions | None = None, progress: Progress | None = None
) -> LlmProfile:
    """Measure what a step of a model that generates takes, and what its memory holds.

    Ctrl-C ends the measuring early: the profile holds what was measured.

    Args:
        target: `demo:smollm2`, a directory of a Hugging Face causal language model, or a `.gguf` file.
        options: What to measure.
        progress: Told how far it is, in seconds of the budget.

    Raises:
        ConfigError: The target can't be loaded, or what is asked for can't be measured on it.
        ModelError: The model failed at every step.
        KeyboardInterrupt: Stopped before there was anything to keep.
    """
    from carpool.llm.load import load_lm

    options = options or ProfileOptions()
    with ExitStack() as stack:
        stack.enter_context(chdir("."))  # a model that goes elsewhere does not take the results along
        thread = stack.enter_context(OneThread())
        model = thread.call(
            lambda: load_lm(
                target, device=options.device, dtype=options.dtype or "auto", num_threads=options.num_threads
            )
        )
        loaded, num_blocks = thread.call(lambda: _with_cache(model, options))
        thread.call(loaded.runner.warm_up)
        device = open_device(loaded.device)
        session = LlmSession(
            target=target,
            loaded=loaded,
            options=options,
            machine=thread.call(lambda: describe_machine(loaded.device, loaded.dtype, options.num_threads)),
            caller=StepCaller(loaded.runner, thread, device, np.random.default_rng(options.seed)),
            num_blocks=num_blocks,
            measure=lambda budget_s: measure_peaks(loaded.device, loaded.dtype, budget_s=budget_s),
            budget=Budget(options.budget_s, progress or SilentProgress()),
        )
        return session.run()


def _with_cache(model: LoadedLM, options: ProfileOptions) -> tuple[Parts, int]:
    """Give a model a cache for the largest step that is timed; return it with the blocks that a server would have.

    A server takes most of the memory that there is, up to what its slots could ever hold; measuring needs less.
    """
    from carpool.llm.kv_cache import available_bytes, num_blocks_for
    from carpool.llm.open import parts_of
    from carpool.llm.options import EngineOptions

    free_bytes, policy = available_bytes(model.model.device), StepPolicy()
    needed = max(sum(end for _, end in shape.pieces()) for shape in shapes_of(options, model.max_length))
    slots = 1 + needed // model.max_length
    loaded = parts_of(
        model,
        EngineOptions(
            target=model.name,
            num_threads=options.num_threads,
            kv_memory_bytes=options.memory_limit_bytes,
            policy=replace(policy, num_slots=slots, token_budget=max(policy.token_budget, slots)),
        ),
    )
    runner = loaded.runner
    served = num_blocks_for(
        runner.cache_bytes // runner.num_blocks,
        available_bytes=free_bytes,
        wanted_bytes=options.memory_limit_bytes,
        most_blocks=-(-policy.num_slots * model.max_length // runner.block_size),
    )
    return loaded, max(served, runner.num_blocks)
