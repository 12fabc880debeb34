"""BatchNorm in micro-batches: its statistics are those of a micro-batch, unless something is done about it.

A BatchNorm layer mixes the items of a batch, so that a batch computed in parts is not the same as the whole one,
however its gradients are added: neither the outputs, nor the gradients, nor the running statistics.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

from torch import nn

from carpool.errors import ConfigError
from carpool.train.exact_batch_norm import ExactBatchNorm
from carpool.train.window_statistics import uses_batch_statistics

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

    from carpool.train.batch_plan import BatchPlan
    from carpool.train.setup import Loss

_NUM_NAMED = 3  # layers that a message names before it only counts


def find(model: nn.Module) -> tuple[str, ...]:
    """Name the BatchNorm layers that take their statistics from the batch.

    A layer in `eval()` mode that has running statistics uses those, and is not among them.

    Args:
        model: to look through.

    >>> from torch import nn
    >>> from carpool.train.batch_norm import find
    >>> find(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm1d(2).eval()))
    ('1',)
    """
    return tuple(name for name, layer in model.named_modules() if uses_batch_statistics(layer))


def check_batch_norm(
    model: nn.Module,
    plan: BatchPlan,
    *,
    how: Literal["warn", "refuse", "exact"] = "warn",
    loss: Loss | None = None,
    group: ProcessGroup | None = None,
) -> ExactBatchNorm | None:
    """Find out whether BatchNorm makes the plan's window differ from its effective batch, and do something about it.

    Args:
        model: in the mode in which it is trained.
        plan: whose windows it is trained on.
        how: "warn"; "refuse", with an error; or "exact", which gives what computes windows exactly, at its price.
        loss: the sum over a micro-batch's valid items; for "exact".
        group: the ranks that share a window, where that is not what the model's wrapper says; for "exact".

    Returns:
        What makes windows exact, where that is asked for and needed: append it to an accumulator's `listeners`, or
        use its `window`. Else None.

    Raises:
        ConfigError: there are such layers, and they are refused; `how` is none of the three; "exact" has no loss.

    >>> from carpool.train import BatchPlan, check_batch_norm
    >>> from torch import nn
    >>> plan = BatchPlan(effective_batch_size=1024, micro_batch_size=32)
    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> def loss(model, batch):
    ...     return model(batch).square().sum()
    >>> type(check_batch_norm(model, plan, how="exact", loss=loss))
    <class 'carpool.train.exact_batch_norm.ExactBatchNorm'>
    """
    if how not in {"warn", "refuse", "exact"}:
        raise ConfigError(f"how is {how!r}: it is one of 'warn', 'refuse' and 'exact'")
    if how == "exact" and loss is None:
        raise ConfigError("how='exact' computes windows several times: give loss=, the sum over a micro-batch's items")
    names = _differing(model, plan)
    if not names:
        return None
    if loss is not None and how == "exact":
        return ExactBatchNorm(model, loss, group=group)
    message = _message(names, plan)
    if how == "refuse":
        raise ConfigError(message)
    warnings.warn(message, stacklevel=2)
    return None


def _differing(model: nn.Module, plan: BatchPlan) -> tuple[str, ...]:
    """Those layers whose statistics are not those of the effective batch."""
    names = find(model)
    if plan.num_accumulation_steps > 1:
        return names
    if plan.num_ranks > 1:  # each rank computes its items at once, and SyncBatchNorm joins them
        return tuple(name for name in names if not isinstance(model.get_submodule(name), nn.SyncBatchNorm))
    return ()


def _message(names: tuple[str, ...], plan: BatchPlan) -> str:
    listed = ", ".join(name or "(the model itself)" for name in names[:_NUM_NAMED])
    if len(names) > _NUM_NAMED:
        listed += f" and {len(names) - _NUM_NAMED} more"
    subject = f"layer {listed} takes its" if len(names) == 1 else f"layers {listed} take their"
    items = max(plan.sizes(0))
    joined = "" if plan.num_accumulation_steps > 1 else ", turn it into SyncBatchNorm"
    return (
        f"the BatchNorm {subject} statistics from the {items} items of a micro-batch, not from the effective batch of "
        f"{plan.effective_batch_size}: what is learnt depends on the micro-batch. Use GroupNorm or LayerNorm instead, "
        f"freeze the statistics with eval(){joined}, or compute them exactly with check_batch_norm(..., how='exact') "
        f"({2 * len(names) + 1} forward passes a window instead of one)"
    )
