"""The `carpool.toml` of a plan for a model that generates: what a server needs to run it, and what it was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.config.policy_keys import write_duration
from carpool.plan.settings_file import text_of
from carpool.plan.words import among
from carpool.units import capitalised, format_count, format_duration

if TYPE_CHECKING:
    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.settings_file import Origin


def llm_settings_text(plan: LlmPlan, origin: Origin) -> str:
    """Write the file.

    Args:
        plan: What to serve with.
        origin: What it was made from.
    """
    found, policy = plan.prediction, plan.chosen.policy
    limits = {one.kind: write_duration(one.limit_s) for one in plan.objectives}
    llm = {
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
    }
    said = [f"{capitalised(plan.chosen.describe())}."]
    if plan.chosen.num_workers > 1:
        said.append(f"Start {plan.chosen.num_workers} such servers, and send requests to them in turn.")
    predicted = [
        f"requests/s answered  {among(found.throughput, format_count)}",
        f"tokens/s generated   {among(found.output_rate, format_count)}",
    ]
    if found.stable:
        predicted.append(f"p99 TTFT             {among(found.ttft_p99_s, format_duration)}")
        predicted.append(f"p99 TPOT             {among(found.tpot_p99_s, format_duration)}")
    return text_of(plan, origin, {"model": origin.model(plan.target), "llm": llm}, said, predicted)
