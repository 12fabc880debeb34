"""The `carpool.toml` of a plan: what a server needs to run it, and what it was made for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.config.policy_keys import policy_table, write_duration
from carpool.config.toml_text import to_toml
from carpool.plan.words import among, describe_setup
from carpool.units import format_count, format_duration

if TYPE_CHECKING:
    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a plan was made from.

    Args:
        profile: Path of the profile, as the server is to open it.
        profile_sha256: Hash of its content.
        device: Where the model ran; None leaves the choice to the model.
        dtype: What its weights were; None leaves the choice to the model.
        num_threads: Threads of one operation; None leaves the choice to the model.
        workload: The keys of `[workload]`.
    """

    profile: str
    profile_sha256: str
    device: str | None
    dtype: str | None
    num_threads: int | None
    workload: Mapping[str, object]

    def model(self, target: str) -> dict[str, object]:
        """Return the `[model]` of a TARGET that is to run as it was measured."""
        return {"target": target, "device": self.device, "dtype": self.dtype, "num_threads": self.num_threads}


def settings_text(plan: Plan, origin: Origin) -> str:
    """Write the file.

    Args:
        plan: What to serve with.
        origin: What it was made from.
    """
    found, chosen = plan.prediction, plan.chosen
    tables: dict[str, object] = {
        "model": origin.model(plan.target) | {"num_workers": chosen.num_workers},
        "policy": policy_table(chosen.policy),
    }
    if chosen.policy.tenant_weights:
        tables["tenants"] = dict(chosen.policy.tenant_weights)
    if plan.objectives:
        tables["objective"] = {one.name: write_duration(one.latency_s) for one in plan.objectives}
    predicted = [
        f"items/s answered   {among(found.throughput, format_count)}",
        f"mean batch         {among(found.mean_batch_size, format_count)}",
    ]
    if found.stable:
        predicted.append(f"median latency     {among(found.p50_s, format_duration)}")
        predicted.append(f"p99                {among(found.p99_s, format_duration)}")
    return text_of(plan, origin, tables, [f"{describe_setup(chosen).capitalize()}."], predicted)


def text_of(
    plan: Plan | LlmPlan,
    origin: Origin,
    tables: Mapping[str, object],
    said: Iterable[str],
    predicted: Iterable[str],
) -> str:
    """Write the file of a plan of any kind.

    Args:
        plan: What to serve with.
        origin: What it was made from.
        tables: What of the file is the plan's own.
        said: How it serves, a sentence a line.
        predicted: What it will do, a figure a line.
    """
    head = {"schema_version": 1, "profile": origin.profile, "profile_sha256": origin.profile_sha256}
    lines = [f"A plan for this load: {plan.workload}", *said]
    lines += ["Predicted, and where nine measurements in ten should lie:", *(f"  {line}" for line in predicted)]
    return to_toml({**head, **tables, "workload": origin.workload}, comment="\n".join(lines))
