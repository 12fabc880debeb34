"""Training in micro-batches that learns exactly what one pass over the whole batch would."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import count as count_up
from itertools import islice
from operator import index as as_index
from typing import TYPE_CHECKING, Any, Literal

from carpool.errors import ConfigError
from carpool.train.batch_norm import check_batch_norm
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.windows import WindowSampler
from carpool.train.exact_batch_norm import ExactBatchNorm
from carpool.train.optimizer_step import OptimizerStep, read_max_norm
from carpool.train.ranks import Ranks
from carpool.train.setup import Loss, count_items
from carpool.train.window import GradientListener, Stopwatch, Surroundings, Window, WindowResult, WindowStart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch
    from torch import nn
    from torch.distributed import ProcessGroup
    from torch.optim.lr_scheduler import LRScheduler

_NEVER_SEEN = object()


class Accumulator:
    """Computes an effective batch in micro-batches, and steps the optimiser once for it.

    The gradient is that of the mean over the valid items of the whole window, on all ranks: the items are counted
    before the first backward pass. The mean of the micro-batches' means differs from it wherever they hold different
    numbers of items, as at the end of the data, or of tokens. Micro-batches without a valid item are left out.

    With several ranks, gradients are exchanged once a window, and ranks that have fewer micro-batches than others
    repeat their last one with no weight, so that all take part in the same exchanges.

    A window whose loss or gradient is not finite on any rank is skipped on all: neither the optimiser nor the scheduler
    steps, and with mixed precision the factor is lowered.

    BatchNorm is the one layer that micro-batches change: a warning names such layers, unless an `ExactBatchNorm` is
    among the `listeners`.

    Args:
        model: that is trained; on several ranks what wraps it, as the loss must call it.
        optimizer: of its parameters.
        plan: the effective batch, and how it is made up.
        count: valid items of a micro-batch, by which the loss of a whole window is divided.
        scheduler: of the learning rate, stepped once a window.
        scaler: of mixed precision; its factor is the same for a whole window, and updated once.
        max_norm: the Euclidean norm that a window's gradient is clipped to.
        loss_is: what the losses are of a micro-batch's valid items, their "sum" or their "mean".
        group: the ranks that average gradients, where those are not all.
        on_window: called with the result of each window, after its step.

    Raises:
        ConfigError: these do not go together.

    >>> import torch
    >>> from carpool.train import Accumulator, BatchPlan
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> accumulator = Accumulator(model, optimizer, plan=BatchPlan(effective_batch_size=64, micro_batch_size=16))
    >>> def loss(model, batch):
    ...     return (model(batch) - 1).square().sum()
    >>> accumulator.step(torch.zeros(64, 3).split(16), loss).num_micro_batches
    4
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        plan: BatchPlan,
        count: Callable[[Any], int] = count_items,
        scheduler: LRScheduler | None = None,
        scaler: torch.amp.GradScaler | None = None,
        max_norm: float | None = None,
        loss_is: Literal["sum", "mean"] = "sum",
        group: ProcessGroup | None = None,
        on_window: Callable[[WindowResult], None] | None = None,
    ) -> None:
        if loss_is not in {"sum", "mean"}:
            raise ConfigError(f'loss_is is {loss_is!r}; it must be "sum" or "mean", of a micro-batch\'s valid items')
        if not isinstance(plan, BatchPlan):
            raise ConfigError(
                f"plan is {plan!r}; it must be a BatchPlan, as BatchPlan.from_state_dict makes of a checkpoint"
            )
        ending = OptimizerStep(
            optimizer=optimizer, scheduler=scheduler, scaler=scaler, max_norm=read_max_norm(max_norm)
        )
        _check_parameters(model, ending)
        self.listeners: list[GradientListener] = []
        self.num_windows = 0
        self.num_skipped = 0
        self._plan = plan
        self._count = count
        self._on_window = on_window
        self._around = Surroundings(
            model=model,
            ranks=Ranks.of(model, group=group, plan=plan),
            ending=ending,
            loss_is=loss_is,
            listeners=self.listeners,
            on_end=self._end_window,
        )
        self._window: Window | None = None
        self._checked: BatchPlan | None = None
        self._seen: Any = _NEVER_SEEN  # a micro-batch to repeat; kept where there are several ranks

    @property
    def plan(self) -> BatchPlan:
        """The effective batch, and how it is made up; a new one holds from the next window."""
        return self._plan

    @plan.setter
    def plan(self, plan: BatchPlan) -> None:
        if plan.num_ranks != self._plan.num_ranks:
            raise ConfigError(
                f"the new plan has {plan.num_ranks} ranks, and {self._plan.num_ranks} train together: use "
                f"plan.with_ranks({self._plan.num_ranks}), which keeps the effective batch"
            )
        self._plan = plan

    def windows(self, loader: Iterable[Any]) -> Iterator[Window]:
        """Group the micro-batches of a loader into windows, until those of all ranks are used up.

        Args:
            loader: gives micro-batches of the sizes that the plan says; the last window may hold fewer. One with a
                sampler of `carpool.train.data` knows its windows itself.

        Yields:
            Each window, to be iterated over.

        Raises:
            ConfigError: a window holds more items than the effective batch, the loader's sampler has another one, or
                the loader gives nothing.
        """
        sampler = getattr(loader, "batch_sampler", None)
        sampler = sampler if isinstance(sampler, WindowSampler) else None
        grouped = self._group(loader, sampler)
        short, short_of = 0, self._plan  # items of the previous window, where those were too few for its plan
        for number in count_up():
            taken = next(grouped, [])
            plan = self._plan_of_next(sampler)
            window = self._open(taken, plan)
            if window is None:
                if number == 0:
                    raise ConfigError("the loader gives no micro-batch: an iterator is used up by one pass over it")
                return
            if short:
                _warn_of_short(short, short_of)
            short, short_of = self._missing(window, plan), plan
            try:
                yield window
            finally:
                window.close()
            if not window.begun:
                raise ConfigError(
                    f"nothing was learnt from window {number}, counted from 0, as its micro-batches were not taken: "
                    "loop over it (for batch in window), and call window.backward(loss) for each"
                )

    def step(self, micro_batches: Iterable[Any], loss: Loss) -> WindowResult:
        """Compute a window, and take its step.

        Args:
            micro_batches: those of this rank.
            loss: of a micro-batch, as `loss_is` says.

        Raises:
            ConfigError: there is no micro-batch on any rank, or the loss cannot be differentiated.
        """
        window = self._open(list(micro_batches), self._plan)
        if window is None:
            raise ConfigError("the window holds no micro-batch: give at least one on some rank")
        try:
            for batch in window:
                window.backward(loss(self._around.model, batch))
        finally:
            window.close()
        return window.result

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the plan and the counts; the optimiser, scheduler and scaler have their own."""
        return {"plan": self._plan.state_dict(), "num_windows": self.num_windows, "num_skipped": self.num_skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; the micro-batch and the ranks may be others than then.

        Args:
            state: from `state_dict`.

        Raises:
            ConfigError: it was trained with another effective batch, or saved by something else.
        """
        if not isinstance(state, Mapping):
            raise ConfigError(f"the accumulator's state is {state!r}: give what its state_dict returned")
        missing = [name for name in ("plan", "num_windows", "num_skipped") if name not in state]
        if missing:
            raise ConfigError(f"the checkpoint lacks {' and '.join(missing)}: it was saved by something else")
        num_windows = _count_of("num_windows", state["num_windows"])
        num_skipped = _count_of("num_skipped", state["num_skipped"])
        then = BatchPlan.from_state_dict(state["plan"]).effective_batch_size
        if then != self._plan.effective_batch_size:
            raise ConfigError(
                f"the checkpoint was trained with an effective batch of {then}, and the plan says "
                f"{self._plan.effective_batch_size}: plan for {then}, which the learning rate belongs to, or leave the "
                "accumulator's state out and scale the learning rate"
            )
        self.num_windows, self.num_skipped = num_windows, num_skipped

    def _group(self, loader: Iterable[Any], sampler: WindowSampler | None) -> Iterator[list[Any]]:
        if sampler is not None:
            _check_sampler(sampler.plan, self._plan)
            return sampler.windows(loader)
        micro_batches = iter(loader)
        return iter(lambda: list(islice(micro_batches, self._plan.num_accumulation_steps)), [])

    def _plan_of_next(self, sampler: WindowSampler | None) -> BatchPlan:
        """By which the window was begun that was just taken from the loader."""
        if sampler is None:
            return self._plan
        _check_sampler(sampler.plan, self._plan)
        return sampler.plan_of_window

    def _open(self, taken: list[Any], plan: BatchPlan) -> Window | None:
        """Make a window of this rank's micro-batches; None when no rank has any."""
        if self._window is not None:
            self._window.close()  # left by an exception, it may still hold back the exchange of gradients
        self._check_batch_norm()
        watch = Stopwatch()
        with watch:
            kept = [(batch, size) for batch in taken if (size := self._num_valid(batch))]
            self._remember([batch for batch, _ in kept], taken)
        told = self._around.ranks.gather(
            len(taken), len(kept), sum(size for _, size in kept), float(self._seen is _NEVER_SEEN)
        )
        if not any(num_taken for num_taken, _, _, _ in told):
            return None
        with watch:
            num_valid = int(sum(size for _, _, size, _ in told))
            self._check_size(num_valid, plan)
            most = int(max(num for _, num, _, _ in told))
            _check_all_take_part([unseen and num < most for _, num, _, unseen in told])
            kept += [(self._seen, 0)] * (most - len(kept))
        self._window = Window(start=self._start(kept, num_valid), around=self._around, watch=watch)
        return self._window

    def _num_valid(self, batch: Any) -> int:
        return _count_of("what count returned for a micro-batch", self._count(batch))

    def _remember(self, kept: list[Any], taken: list[Any]) -> None:
        """Keep a micro-batch to repeat; one without a valid item, whose mean is no number, only for want of others."""
        if self._around.ranks.num > 1:
            candidates = kept or ([] if self._seen is not _NEVER_SEEN else taken)
            self._seen = candidates[-1] if candidates else self._seen

    def _start(self, kept: list[tuple[Any, int]], num_valid: int) -> WindowStart:
        num_ranks = self._around.ranks.num
        return WindowStart(
            micro_batches=tuple(batch for batch, _ in kept),
            sizes=tuple(size for _, size in kept),
            num_valid=num_valid,
            num_ranks=num_ranks,
            scale=self._around.ending.scale() * num_ranks / max(num_valid, 1),
        )

    def _check_size(self, num_valid: int, plan: BatchPlan) -> None:
        """Refuse a larger window than the plan's, where its items are counted rather than something in them."""
        if self._count is count_items and num_valid > plan.effective_batch_size:
            raise ConfigError(
                f"a window holds {num_valid} items, and the plan is {plan}: load micro-batches of the sizes in "
                "plan.sizes(rank), or plan for more items; where micro-batches do not begin with a tensor of items, "
                "give count="
            )

    def _check_batch_norm(self) -> None:
        """Warn once for a plan, when its first window shows which listeners there are."""
        if self._checked is not self._plan:
            self._checked = self._plan
            if not any(isinstance(listener, ExactBatchNorm) for listener in self.listeners):
                check_batch_norm(self._around.model, self._plan)

    def _missing(self, window: Window, plan: BatchPlan) -> int:
        """The items of a window that holds fewer than the plan says; 0 where it does not."""
        num_valid = window.start.num_valid
        return num_valid if self._count is count_items and num_valid < plan.effective_batch_size else 0

    def _end_window(self, result: WindowResult) -> None:
        self.num_windows += 1
        self.num_skipped += result.skipped
        if self._on_window is not None:
            self._on_window(result)


def _count_of(name: str, counted: Any) -> int:
    """A number as Python's own, from whoever counted."""
    try:
        number = as_index(counted)
    except TypeError:
        number = -1
    if number < 0:
        raise ConfigError(f"{name} is {counted!r}; it must be a whole number from 0")
    return number


def _check_parameters(model: nn.Module, ending: OptimizerStep) -> None:
    mine = {id(parameter) for parameter in model.parameters()}
    if not any(id(parameter) in mine for parameter in ending.parameters()):
        raise ConfigError(
            f"none of the optimiser's parameters is one of {type(model).__name__}'s: make the optimiser after the "
            "model was moved, wrapped or sharded"
        )


def _check_sampler(theirs: BatchPlan, mine: BatchPlan) -> None:
    if (theirs.effective_batch_size, theirs.num_ranks) != (mine.effective_batch_size, mine.num_ranks):
        raise ConfigError(f"the loader's sampler gives {theirs}, and the plan is {mine}: give both the same plan")


def _check_all_take_part(stranded: list[float | bool]) -> None:
    if any(stranded):
        ranks = " and ".join(str(rank) for rank, alone in enumerate(stranded) if alone)
        raise ConfigError(
            f"rank {ranks} has had no micro-batch yet, and nothing to take part in the exchange of gradients with: "
            "give each rank one at least, or train on fewer ranks"
        )


def _warn_of_short(num_items: int, plan: BatchPlan) -> None:
    warnings.warn(
        f"a window before the last held {num_items} items, and the plan is {plan}: load micro-batches of the sizes in "
        "plan.sizes(rank), or the learning rate belongs to another batch",
        stacklevel=3,
    )
