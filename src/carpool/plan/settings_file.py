"""The `carpool.toml` of a plan: what a server needs to run it, and what it was made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

from carpool.config.toml_text import to_toml
from carpool.core.policy import Policy
from carpool.plan.words import among, describe_setup
from carpool.units import format_count, format_duration, parse_duration_s

if TYPE_CHECKING:
    from carpool.plan.plan import Plan

# Policy's names that are written without their unit, because the value has it.
_NAMES = MappingProxyType(
    {
        "max_wait_s": "max_wait",
        "patience_s": "patience",
        "ageing_s": "ageing",
        "memory_limit_bytes": "memory_limit",
    }
)
_ALWAYS = frozenset({"max_batch_size", "max_wait_s"})


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


def policy_table(policy: Policy) -> dict[str, object]:
    """Return the keys of `[policy]`: those that a plan is about, and whatever is not as by default.

    >>> policy_table(Policy(max_batch_size=16, max_wait_s=0.002, look_ahead=64))
    {'max_batch_size': 16, 'max_wait': '2ms', 'look_ahead': 64}
    """
    default, found = Policy(), {}
    for field in fields(Policy):
        value = getattr(policy, field.name)
        if field.name != "tenant_weights" and (field.name in _ALWAYS or value != getattr(default, field.name)):
            found[_NAMES.get(field.name, field.name)] = _duration(value) if field.name.endswith("_s") else value
    return found


def _duration(seconds: float) -> str | float:
    """Write a duration as people do where that is exact, else as seconds."""
    text = f"{seconds * 1e3:.6g}ms" if 0 < seconds < 1 else f"{seconds:.6g}s"
    return text if parse_duration_s(text) == seconds else seconds


def _objectives(plan: Plan) -> dict[str, object]:
    return {f"p{one.quantile * 100:g}": _duration(one.latency_s) for one in plan.objectives}


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
