"""A training plan: the micro-batch that fits, what each effective batch takes, and the hyper-parameters for it."""

from __future__ import annotations

from dataclasses import dataclass

from carpool.train.autosize.result import MicroBatch, Throughput
from carpool.train.noise.time_optimal import TimeOptimal
from carpool.train.planning.step_time import StepTime
from carpool.train.planning.trade_off import Noise, Row, Target, TradeOff
from carpool.train.scaling.report import ScalingReport


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainPlan:
    """What training with an effective batch takes, and what others would.

    Args:
        name: of what is trained.
        model: class of the model.
        num_parameters: of the model that are trained.
        optimizer: class of the optimiser.
        effective_batch_size: that was asked for.
        num_ranks: processes that train together.
        num_items: items of one pass over the data.
        base_batch_size: effective batch that the optimiser's rates were chosen for; None where nobody said.
        micro_batch: the largest that fits, and what was probed of others.
        throughput: times of the data's own micro-batches.
        time: what micro-batches and updates take.
        trade_off: what each effective batch costs and buys.
        scaling: the hyper-parameters for the effective batch; None where the base is not known, or no rule.
        noise: how noisy gradients are, in items; None where it is not known.
        optimal: the batch that reaches a target first, by the formula; None without the noise scale.
        target: steps that a known batch takes; None where nobody said.
        sentences: what all this means.
        doubts: what speaks against the figures.
    """

    name: str
    model: str
    num_parameters: int
    optimizer: str
    effective_batch_size: int
    num_ranks: int
    num_items: int
    base_batch_size: int | None
    micro_batch: MicroBatch
    throughput: Throughput
    time: StepTime
    trade_off: TradeOff
    scaling: ScalingReport | None
    noise: Noise | None
    optimal: TimeOptimal | None
    target: Target | None
    sentences: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def chosen(self) -> Row:
        """The row of the effective batch that was asked for."""
        return self.trade_off.asked
