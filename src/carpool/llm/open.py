"""From options to an engine: the model loaded, given a cache, and put together with its tokenizer and chat template."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from carpool.core.limits import check_whole
from carpool.errors import ConfigError
from carpool.llm.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from carpool.core.cost import StepTimeModel
    from carpool.llm.loaded import LoadedLM
    from carpool.llm.options import EngineOptions
    from carpool.llm.parts import Parts
    from carpool.signals.llm_events import LLMSink


def open_engine(
    options: EngineOptions, *, time_model: StepTimeModel | None = None, sink: LLMSink | None = None
) -> Engine:
    """Make an engine; nothing is loaded before it is started.

    Args:
        options: what to load, where, and how its steps are formed.
        time_model: predicts how long a step takes; learned from the steps alone by default.
        sink: is told every event.

    Raises:
        TargetError: the target is not there.
        ConfigError: an option is outside its range.
    """
    _check(options)
    return Engine(
        loader(options),
        policy=options.policy,
        time_model=time_model,
        step_timeout_s=options.step_timeout_s,
        sink=sink,
    )


def _check(options: EngineOptions) -> None:
    from carpool.llm.load import check_loadable

    check_loadable(options.target, dtype=options.dtype, weights=options.weights, num_threads=options.num_threads)
    for name, value in (("max_length", options.max_length), ("kv_memory", options.kv_memory_bytes)):
        if value is not None:
            check_whole(name, value)


def loader(options: EngineOptions) -> Callable[[], Parts]:
    """Return what loads an engine's parts.

    Args:
        options: what to load, and where.
    """
    return partial(load_parts, options)


def load_parts(options: EngineOptions) -> Parts:
    """Load the model, and put it together with what an engine needs besides.

    Args:
        options: what to load, and where.

    Raises:
        TargetError: the target names no causal language model.
        ConfigError: an option can't be kept.
    """
    from carpool.llm.load import load_lm

    loaded = load_lm(
        options.target,
        device=options.device,
        dtype=options.dtype,
        weights=options.weights,
        num_threads=options.num_threads,
    )
    return parts_of(_limited(loaded, options.max_length), options)


def parts_of(loaded: LoadedLM, options: EngineOptions) -> Parts:
    """Put a loaded model together with what an engine needs besides.

    Args:
        loaded: the model; its attention is given over to the cache.
        options: how it is run.
    """
    from carpool.llm.chat import ChatTemplate
    from carpool.llm.make_runner import make_runner
    from carpool.llm.parts import Parts

    runner = make_runner(
        loaded,
        block_size=options.policy.block_size,
        kv_memory_bytes=options.kv_memory_bytes,
        most_tokens=options.policy.num_slots * loaded.max_length,
        num_threads=options.num_threads,
        deterministic=options.deterministic,
    )
    chat = None if loaded.chat_template is None else ChatTemplate(loaded.chat_template, loaded.special_tokens)
    return Parts(
        runner=runner,
        tokenizer=loaded.tokenizer,
        eos_ids=loaded.eos_ids,
        name=loaded.name,
        dtype=loaded.dtype,
        device=loaded.device,
        chat=chat,
    )


def _limited(loaded: LoadedLM, max_length: int | None) -> LoadedLM:
    if max_length is None:
        return loaded
    if not 1 < max_length <= loaded.max_length:
        raise ConfigError(
            f"max_length is {max_length}, and {loaded.name} takes 2 to {loaded.max_length} tokens: choose one of those"
        )
    return replace(loaded, max_length=max_length)
