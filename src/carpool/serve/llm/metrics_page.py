"""What the metrics page says of the language models on offer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.signals.llm_export import LanguageModels, LlmSight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.llm.served import ServedLM
    from carpool.signals.export import ModelKey


def language_models(generators: Mapping[ModelKey, ServedLM]) -> tuple[LanguageModels, ...]:
    """Look at the models that are loaded.

    Args:
        generators: by name and version.
    """
    return (LanguageModels({key: _look_at(served) for key, served in generators.items() if served.ready}),)


def _look_at(served: ServedLM) -> LlmSight:
    engine = served.engine
    return LlmSight(
        totals=engine.metrics.totals(),
        num_running=engine.num_running,
        num_waiting=engine.num_waiting,
        num_slots=served.policy.num_slots,
        usage=engine.usage,
        num_blocks=engine.parts.runner.num_blocks,
    )
