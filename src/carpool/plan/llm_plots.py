"""A plan for a model that generates as pictures: times over the load, and what each way of serving gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.plan.plots import MS, POINTS_TO_DRAW, objective_line, over_load
from carpool.report.plot import LineSeries, Mark, Panel, Picture, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from carpool.plan.llm_figures import Kind
    from carpool.plan.llm_plan import LlmPlan
    from carpool.plan.llm_what_if import LlmFrontierPoint


def pictures(plan: LlmPlan) -> dict[str, Picture]:
    """Return all pictures that the plan has figures for, by the name of their file."""
    found = {
        "plan-times": ("Times as the load rises", [*_over_load(plan, "ttft"), *_over_load(plan, "tpot")]),
        "plan-tokens": ("Tokens generated as the load rises", [*_tokens(plan), *_slots(plan)]),
    }
    return {name: figure(panels, title=title) for name, (title, panels) in found.items() if panels}


def _curves(plan: LlmPlan, value_of: Callable[[LlmFrontierPoint], float]) -> list[LineSeries]:
    """Draw a figure over the load, what carries least first."""
    return over_load(sorted(plan.frontier, key=lambda point: point.rate), value_of)


def _over_load(plan: LlmPlan, kind: Kind) -> Iterator[Panel]:
    """Draw the p99 of a time over the load for each setup up to where its queue grows without end."""
    curves = _curves(plan, lambda point: MS * float(getattr(point.prediction, f"{kind}_p99_s").value))
    curves = [curve for curve in curves if min(curve.y) > 0]  # answers of one token have no time between two
    if not curves:
        return
    titles = {"ttft": "The first token, as the load rises", "tpot": "Each further token, as the load rises"}
    yield Panel(
        title=titles[kind],
        x_label="arrivals, requests/s",
        y_label=f"p99 {kind.upper()}, ms, as far as each can serve",
        series=(
            *curves,
            *(objective_line(one.limit_s, plan.rate, curves) for one in plan.objectives if one.kind == kind),
        ),
        marks=(Mark(plan.rate, "the planned load"),),
        x_scale="log10",
        y_scale="log10",
    )


def _tokens(plan: LlmPlan) -> Iterator[Panel]:
    """Draw the tokens generated over the load."""
    curves = _curves(plan, lambda point: point.prediction.output_rate.value)
    if curves:
        yield Panel(
            title="Tokens generated, as far as each can serve",
            x_label="arrivals, requests/s",
            y_label="tokens/s",
            series=tuple(curves),
            marks=(Mark(plan.rate, "the planned load"),),
            x_scale="log10",
        )


def _slots(plan: LlmPlan) -> Iterator[Panel]:
    """Draw what the number of slots changes, of what the search compared with the plan's token budget."""
    chosen = plan.chosen.policy
    same = sorted(
        (
            one
            for one in plan.tried
            if one.setup.policy.token_budget == chosen.token_budget
            and one.setup.num_workers == plan.chosen.num_workers
            and one.prediction.stable
        ),
        key=lambda one: one.setup.policy.num_slots,
    )
    if len(same) < POINTS_TO_DRAW:
        return
    slots = [one.setup.policy.num_slots for one in same]
    lines = [
        LineSeries(label=label, x=slots, y=[MS * getattr(one.prediction, name).value for one in same])
        for label, name in (("p99 TTFT", "ttft_p99_s"), ("p99 ITL", "itl_p99_s"), ("p99 TPOT", "tpot_p99_s"))
    ]
    shown = tuple(line for line in lines if min(line.y) > 0)  # answers of one token have no time between two
    if shown:
        yield Panel(
            title="What the number of slots changes",
            x_label="slots",
            y_label="ms",
            series=shown,
            marks=(Mark(chosen.num_slots, "the plan"),),
            x_scale="log2",
            y_scale="log10",
        )
