"""A chain of models under one name: each behind its own batcher, one deadline for all."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, ConfigError, DeadlineExceeded
from carpool.models.model import Admitted, Model, ModelInfo
from carpool.serve.call import Answer, CallOptions, Outcome, Ticket
from carpool.serve.faults import FAILED, UNAVAILABLE, Fault, to_fault
from carpool.serve.served import Served
from carpool.serve.signature import Signature
from carpool.serve.statistics import Statistics
from carpool.signals.end_to_end import EndToEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.core import Item
    from carpool.runtime.batcher import Batcher
    from carpool.serve.source import Named

_logger = logging.getLogger("carpool.serve")


class Pipeline(Served):
    """Models that run one after the other: what one gives, the next one takes, row by row.

    Requests of many clients share the batches of every step, each formed by that step's own policy. The steps are found
    by name at every call, so that each may be loaded anew by itself. Its own figures, `statistics` and `ends`, are of
    whole requests, from arrival to the last step's answer; those of batches and queues are the steps'.

    Args:
        others: finds the models.
        name: what clients call the chain.
        version: which one of that name it is.
        steps: the name and the version of each model, in order; an empty version stands for the one in force.
        request_timeout_s: after so long the answer to a request that says nothing of it is worth nothing; 0 for never.

    Raises:
        ConfigError: it is a step of its own.
    """

    def __init__(
        self,
        others: Named,
        *,
        name: str,
        version: str = "1",
        steps: Sequence[tuple[str, str]],
        request_timeout_s: float = 0.0,
    ) -> None:
        if any(step == name for step, _ in steps):
            raise ConfigError(f"the pipeline {name!r} names itself among its steps: give it another name")
        # Served's own __init__ makes a batcher, of which a chain has none.
        self.name = name
        self.version = version
        self.model = _Chain(self)
        self.machine = None
        self.num_admitting = 0
        self.statistics = Statistics()
        self.ends = EndToEnd()
        self._others = others
        self._steps = tuple(steps)
        self._request_timeout_s = request_timeout_s or None

    # ---------------------------------------------------------------------------------------------- what it is

    @property
    def steps(self) -> tuple[str, ...]:
        """The names of its models, in order."""
        return tuple(name for name, _ in self._steps)

    def _members(self) -> Iterator[Served]:
        """Yield the model of each step.

        Raises:
            Fault: one is not there, which is named.
        """
        for name, version in self._steps:
            with self._naming(name, status=UNAVAILABLE):
                member = self._others.named(name, version)
                if isinstance(member, Pipeline):
                    raise Fault(UNAVAILABLE, f"{name!r} is a pipeline itself: name its steps instead")
            yield member

    @contextlib.contextmanager
    def _naming(self, step: str, status: int | None = None) -> Iterator[None]:
        """Let a fault say in which step it came up."""
        try:
            yield
        except CarpoolError as error:
            fault = to_fault(error)
            raise Fault(
                status or fault.status,
                f"step {step!r} of {self.name!r}: {fault}",
                code=fault.code,
                param=fault.param,
                retry_after_s=fault.retry_after_s,
            ) from error

    def start(self) -> None:
        """Check that the models of all steps are there and answer.

        Raises:
            ConfigError: one is not, or is a chain itself.
        """
        try:
            for member in self._members():
                member.check_ready()
        except Fault as fault:
            raise ConfigError(str(fault)) from fault

    def close(self, timeout_s: float) -> None:
        """Do nothing: the models of the steps are closed by themselves."""

    @property
    def ready(self) -> bool:
        """Whether every step answers."""
        try:
            return all(member.ready for member in self._members())
        except Fault:
            return False

    @property
    def failure(self) -> Exception | None:
        """What is wrong with the first step that does not answer; None while all is well."""
        try:
            return next((member.failure for member in self._members() if member.failure is not None), None)
        except Fault as fault:
            return fault

    def check_ready(self) -> None:
        """Refuse requests that can't be answered now.

        Raises:
            Fault: a step is still loading, or has failed.
        """
        for member in self._members():
            with self._naming(member.name, status=UNAVAILABLE):
                member.check_ready()

    @property
    def signature(self) -> Signature:  # type: ignore[override]
        """What the first step takes and the last one gives."""
        return Signature(inputs=self.first.signature.inputs, outputs=self.last.signature.outputs)

    @property
    def batcher(self) -> Batcher:  # type: ignore[override]
        """The batcher that requests meet first."""
        return self.first.batcher

    @property
    def first(self) -> Served:
        """The model of the first step."""
        return self._others.named(*self._steps[0])

    @property
    def last(self) -> Served:
        """The model of the last step."""
        return self._others.named(*self._steps[-1])

    @property
    def max_rows(self) -> int:
        """The most rows that one request may have: more would never fit the queue of some step."""
        return min(member.max_rows for member in self._members())

    # ------------------------------------------------------------------------------------------------- calls

    def submit(
        self, items: Sequence[Any], options: CallOptions, done: Callable[[Outcome], None], *, num_bytes: int = 0
    ) -> Ticket:
        """Hand over the rows of a request, as `Served.submit` does."""
        loop = asyncio.get_running_loop()
        ticket = Ticket(loop, done)
        task = loop.create_task(
            self._answer(ticket, items, options, num_bytes=num_bytes, arrived_at=time.perf_counter())
        )

        def withdraw(_items: Sequence[Item]) -> None:
            task.cancel()

        ticket.accepted((), withdraw)
        return ticket

    async def _answer(self, ticket: Ticket, items: Sequence[Any], options: CallOptions, **told: Any) -> None:
        try:
            answer = await self._call(items, options, **told)
            ticket.lengths = answer.lengths
            ticket.finish(answer.results)
        except CarpoolError as error:
            ticket.finish(to_fault(error))
        except Exception:
            _logger.exception("unexpected failure, a fault in carpool, in the pipeline %s", self.name)
            ticket.finish(Fault(FAILED, "the request failed unexpectedly: the server's log says how"))

    async def call(self, items: Sequence[Any], options: CallOptions, *, num_bytes: int = 0) -> Answer:
        """Run the rows of a request through all steps; being cancelled withdraws what still waits.

        Args:
            items: as the first step's model takes them.
            options: what else the request says; its timeout is for all steps together.
            num_bytes: the size of the request.

        Raises:
            Fault: a row was refused or failed, which is named, and so is the step.
        """
        return await self._call(items, options, num_bytes=num_bytes, arrived_at=time.perf_counter())

    async def _call(self, items: Sequence[Any], options: CallOptions, *, num_bytes: int, arrived_at: float) -> Answer:
        self.num_admitting += 1
        try:
            answer = await self._through_all(items, options, num_bytes, arrived_at)
        except asyncio.CancelledError:
            self._count(len(items), arrived_at, cancelled=True)
            raise
        except Exception:
            self._count(len(items), arrived_at, failed=True)
            raise
        else:
            self._count(len(items), arrived_at)
            return answer
        finally:
            self.num_admitting -= 1

    def _count(self, num_items: int, arrived_at: float, *, failed: bool = False, cancelled: bool = False) -> None:
        """Count the rows of a request that has ended; one whose client went away was not answered, and has failed."""
        took_s = time.perf_counter() - arrived_at
        self.statistics.add_request(num_items, took_s, failed=failed or cancelled)
        if not cancelled:
            self.ends.add(num_items, took_s, failed=failed)

    async def _through_all(
        self, items: Sequence[Any], options: CallOptions, num_bytes: int, arrived_at: float
    ) -> Answer:
        now = time.perf_counter
        timeout_s = options.timeout_s or self._request_timeout_s
        give_up_at = None if timeout_s is None else arrived_at + timeout_s
        lengths: tuple[int, ...] = ()
        for name, version in self._steps:
            with self._naming(name):
                left_s = None if give_up_at is None else give_up_at - now()
                if left_s is not None and left_s <= 0:
                    raise DeadlineExceeded(f"the deadline of {timeout_s:.3g} s passed in the steps before: allow more")
                member = self._others.named(name, version)
                member.check_ready()
                answer = await member.call(items, replace(options, timeout_s=left_s), num_bytes=num_bytes)
            lengths, items = lengths or answer.lengths, answer.results
        return Answer(results=list(items), lengths=lengths)


class _Chain(Model):
    """What a pipeline says of its model: the first step's in what it takes, the last one's in what it gives."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    @property
    def info(self) -> ModelInfo:
        """What it is, as far as clients can tell."""
        return replace(self._pipeline.last.model.info, name=self._pipeline.name)

    @property
    def has_length(self) -> bool:
        """Whether items differ in length for the first step."""
        return self._pipeline.first.model.has_length

    def load(self) -> None:
        """Do nothing: the models of the steps load by themselves."""

    def admit(self, item: object) -> Admitted:
        """Check an item as the first step does."""
        return self._pipeline.first.model.admit(item)

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        """Refuse to run: each step has its own batches.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"a pipeline runs no batch of {len(payloads)} itself: call it through its steps")

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Return examples of the first step.

        Raises:
            ConfigError: it has none.
        """
        return self._pipeline.first.model.examples(num_items, length=length, seed=seed)
