"""The `carpool.toml` of a plan for a model that generates: what a server needs to run it, and what it was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.config.policy_keys import write_duration
from carpool.config.toml_text import to_toml
from carpool.plan.words import among
from carpool.units import format_count, format_duration

if TYPE_CHECKING:
    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.settings_file import Origin


def llm_settings_text(plan: LlmPlan, origin: Origin) -> str:
    """Write the file.

    Args:
        plan: What to serve with.
        origin: What it was made from.
    """
    policy = plan.chosen.policy
    limits = {one.kind: write_duration(one.limit_s) for one in plan.objectives}
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
            },
            "llm": {
                "num_slots": policy.num_slots,
                "token_budget": policy.token_budget,
                "block_size": policy.block_size,
                # Where nobody says how much, a server takes what there is when it starts.
                "kv_memory": plan.kv_bytes if plan.options.memory_bytes is not None else None,
                "prefix_caching": policy.prefix_caching,
                "chunked_prefill": policy.chunked_prefill,
                "max_waiting": policy.max_waiting,
                "ttft": limits.get("ttft"),
                "tpot": limits.get("tpot"),
            },
            "workload": origin.workload,
        },
        comment=_comment(plan),
    )


def _comment(plan: LlmPlan) -> str:
    """Say what the file is, and what was predicted."""
    found = plan.prediction
    described = plan.chosen.describe()
    lines = [
        f"A plan for this load: {plan.workload}",
        f"{described[:1].upper()}{described[1:]}.",
        "Predicted, and where nine measurements in ten should lie:",
        f"  requests/s answered  {among(found.throughput, format_count)}",
        f"  tokens/s generated   {among(found.output_rate, format_count)}",
    ]
    if plan.chosen.num_workers > 1:
        lines.insert(2, f"Start {plan.chosen.num_workers} such servers, and send requests to them in turn.")
    if found.stable:
        lines.append(f"  p99 TTFT             {among(found.ttft_p99_s, format_duration)}")
        lines.append(f"  p99 TPOT             {among(found.tpot_p99_s, format_duration)}")
    return "\n".join(lines)
