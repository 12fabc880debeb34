"""The `carpool.toml` of a plan: what a server needs to run it, and what it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carpool.config.policy_keys import policy_table, write_duration
from carpool.config.toml_text import to_toml
from carpool.plan.words import among, describe_setup
from carpool.units import format_count, format_duration

if TYPE_CHECKING:
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


def settings_text(plan: Plan, origin: Origin) -> str:
    """Write the file.

    Args:
        plan: What to serve with.
        origin: What it was made from.
    """
    return to_toml(
        {
            "schema_version": 1,
            "profile": origin.profile,
            "profile_sha256": origin.profile_sha256,
            "model": {
                "target": plan.target,
                "device": origin.device,
                "dtype": origin.dtype,
                "num_threads": origin.num_threads,
                "num_workers": plan.chosen.num_workers,
            },
            "policy": policy_table(plan.chosen.policy),
            **({"tenants": dict(plan.chosen.policy.tenant_weights)} if plan.chosen.policy.tenant_weights else {}),
            **({"objective": _objectives(plan)} if plan.objectives else {}),
            "workload": origin.workload,
        },
        comment=_comment(plan),
    )


def _objectives(plan: Plan) -> dict[str, object]:
    return {one.name: write_duration(one.latency_s) for one in plan.objectives}


def _comment(plan: Plan) -> str:
    """Say what the file is, and what was predicted."""
    found = plan.prediction
    lines = [
        f"A plan for this load: {plan.workload}",
        f"{describe_setup(plan.chosen).capitalize()}.",
        "Predicted, and where nine measurements in ten should lie:",
        f"  items/s answered   {among(found.throughput, format_count)}",
        f"  mean batch         {among(found.mean_batch_size, format_count)}",
    ]
    if found.stable:
        lines.append(f"  median latency     {among(found.p50_s, format_duration)}")
        lines.append(f"  p99                {among(found.p99_s, format_duration)}")
    return "\n".join(lines)
