"""A workload of generations as settings and as the `[workload]` table of a `carpool.toml`, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.plan.llm_workload import Lengths, LlmWorkload
from carpool.plan.workload_table import arrivals_of, arrivals_table

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.config.settings import WorkloadSettings

_NOT_SIMULATED = ("deadline_s", "patience_s", "priorities")


def llm_from_settings(settings: WorkloadSettings) -> LlmWorkload:
    """Make the workload that was described.

    Args:
        settings: `load_settings(...).workload`.

    Raises:
        ConfigError: Nothing says how many requests come, or how long they are; two keys contradict each other; a value
            is out of its range; or the trace can't be read.

    Example:
        >>> from carpool.config.settings import load_settings
        >>> told = {"workload.rate": 2, "workload.lengths": [200], "workload.output_lengths": [80]}
        >>> llm_from_settings(load_settings(flags=told).workload).describe()
        'Poisson arrivals at 2/s; prompts of 200 tokens; answers of 80 tokens.'
    """
    for name in _NOT_SIMULATED:
        if getattr(settings, name):
            key = name.removesuffix("_s")
            raise ConfigError(f"{key} is not planned for with a model that generates: leave it out")
    return LlmWorkload(
        arrivals=arrivals_of(settings),
        prompts=_lengths(settings.lengths, settings.length_spread),
        outputs=_lengths(settings.output_lengths, settings.length_spread),
        shared_prefix=settings.shared_prefix,
        num_prefixes=settings.num_prefixes,
    )


def _lengths(typical: tuple[int, ...], spread: float) -> Lengths | None:
    return Lengths(typical=typical, spread=spread) if typical else None


def llm_to_table(workload: LlmWorkload, *, beside: Path | None = None) -> dict[str, Any]:
    """Write a workload as a `[workload]` table; what is as by default is left out.

    Args:
        workload: What arrives.
        beside: The directory of the file that the table is written to: a trace is named from there.
    """
    table = arrivals_table(workload.arrivals, beside)
    spread = 0.0
    for key, lengths in (("lengths", workload.prompts), ("output_lengths", workload.outputs)):
        if lengths is not None:
            table[key] = list(lengths.typical)
            spread = max(spread, lengths.spread)
    if spread:
        table["length_spread"] = spread
    if workload.shared_prefix:
        table |= {"shared_prefix": workload.shared_prefix, "num_prefixes": workload.num_prefixes}
    return table
