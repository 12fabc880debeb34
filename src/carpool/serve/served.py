"""A model on offer: its name, its batcher, and what it takes and gives."""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, ConfigError, DeadlineExceeded
from carpool.models.model import Admitted
from carpool.profile.machine import describe_machine
from carpool.runtime.batcher import Batcher
from carpool.serve.call import SMALL_BODY_BYTES, Answer, CallOptions, Outcome, Ticket
from carpool.serve.faults import FAILED, Fault, bad_request, to_fault
from carpool.serve.feeding import Feeding
from carpool.serve.on_offer import require_name, unready
from carpool.serve.sharing import Sharing
from carpool.serve.signature import Signature, describe
from carpool.serve.statistics import Statistics
from carpool.serve.warm import WarmUps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carpool.core import Policy, TimeModel
    from carpool.models.model import Model
    from carpool.profile.machine import Machine
    from carpool.runtime.copies import WorkerKind
    from carpool.serve.cache import SharingPolicy
    from carpool.serve.feeding import Entrance

NUM_EXAMPLES = 4
_MOST_QUEUES = 16  # of rows in one request: what is larger is no request, but a job
_logger = logging.getLogger("carpool.serve")


class Served:
    """A model on offer.

    Args:
        model: what runs; loaded by `start`.
        name: what clients call it; None takes the model's own name.
        version: which one of that name it is.
        policy: how batches are formed.
        cost_model: predicts how long a batch runs; None learns that while serving.
        num_workers: batches that run at a time; None takes as many as the model is best run with.
        worker: "thread" or "process".
        devices: one for each worker; None leaves them to the model.
        batch_timeout_s: a batch that takes longer is taken to hang; None for none.
        max_worker_memory_bytes: of a worker's process, which is replaced beyond it; None for no limit.
        sharing: what equal items share; nothing by default.
        request_timeout_s: after so long the answer to a request that says nothing of it is worth nothing; 0 for never.
        warm_up_s: the longest that running every shape of batch once may take before it is ready.

    Raises:
        ConfigError: the name can't stand in a URL.
    """

    def __init__(
        self,
        model: Model,
        *,
        name: str | None = None,
        version: str = "1",
        policy: Policy,
        cost_model: TimeModel | None = None,
        num_workers: int | None = None,
        worker: WorkerKind = "thread",
        devices: Sequence[str] | None = None,
        batch_timeout_s: float | None = None,
        max_worker_memory_bytes: int | None = None,
        request_timeout_s: float = 0.0,
        warm_up_s: float = 30.0,
        sharing: SharingPolicy | None = None,
    ) -> None:
        self.model = model
        self.name = require_name(name or model.info.name)
        self.version = version
        self.statistics = Statistics()
        self.batcher = Batcher(
            model,
            policy=policy,
            cost_model=cost_model,
            num_workers=num_workers,
            worker=worker,
            devices=devices,
            batch_timeout_s=batch_timeout_s,
            max_worker_memory_bytes=max_worker_memory_bytes,
            warm_up=self._warm_up,
            sink=self.statistics,
        )
        self.model = self.batcher.model  # as its workers have it
        self.signature = Signature()
        self.machine: Machine | None = None  # known once the model is loaded
        self.num_admitting = 0  # requests whose rows are being checked on a thread, and do not wait yet
        self._request_timeout_s = request_timeout_s or None
        self._warm_up_s = warm_up_s
        self._warm_ups = WarmUps()
        self._entrance: Entrance = self.batcher
        if sharing is not None and sharing.is_on:
            self._entrance = Sharing(self.batcher, sharing)

    def start(self) -> None:
        """Load the model, learn what it takes and gives, and warm it up.

        Raises:
            CarpoolError: the model can't be loaded, or does not run its own examples.
        """
        self.batcher.start()

    def _warm_up(self, model: Model) -> Iterator[Sequence[Any]]:
        """Run on the worker's thread, once the model is loaded: nothing of this is counted as traffic."""
        info = model.info
        self.machine = describe_machine(info.device, info.dtype, info.num_threads)
        self.signature = learn_signature(model)
        yield from self._warm_ups.batches(model, self.batcher.policy, limit_s=self._warm_up_s)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.batcher.ready

    @property
    def failure(self) -> Exception | None:
        """What stopped it, or kept it from starting; None while all is well."""
        return self.batcher.failure

    @property
    def trouble(self) -> str:
        """Why it can't answer now though it will: its workers are being replaced; empty where that is not so."""
        return str(self.batcher.trouble or "")

    def check_ready(self) -> None:
        """Refuse requests that can't be answered now.

        Raises:
            Fault: the model is still loading, or has failed.
        """
        if self.batcher.accepts:
            return
        raise unready(self.name, self.failure)

    @property
    def num_workers(self) -> int:
        """Batches that run at a time."""
        return self.batcher.metrics.num_workers

    @property
    def max_rows(self) -> int:
        """The most rows that one request may have: as many as could wait are fed in parts."""
        return _MOST_QUEUES * self.batcher.policy.max_queue

    @property
    def takes_text(self) -> bool:
        """Whether an item is one text."""
        inputs = self.signature.inputs
        fields = inputs.fields if inputs is not None else ()
        return [(field.datatype, field.form, field.as_bytes) for field in fields] == [("BYTES", "scalar", False)]

    @property
    def embeds(self) -> bool:
        """Whether it turns texts into vectors."""
        return self.takes_text and self.vector_size is not None

    def check_embeds(self, items: Sequence[Any]) -> int:
        """Refuse to embed what this model does not.

        Args:
            items: texts, or lists of token ids, which only an encoder takes.

        Returns:
            The length of its vectors.

        Raises:
            Fault: it does not turn texts, or not these items, into vectors.
        """
        size = self.vector_size
        if size is None or not self.takes_text:
            remedy = f"ask it through /v2/models/{self.name}/infer"
            raise bad_request(f"the model {self.name!r} does not turn texts into vectors: {remedy}", param="model")
        if self.model.info.kind != "encoder" and not all(isinstance(item, str) for item in items):
            raise bad_request(f"the model {self.name!r} takes no token ids: send texts", param="input")
        return size

    @property
    def vector_size(self) -> int | None:
        """The length of the vectors it gives; None where it gives none."""
        fields = self.signature.outputs.fields if self.signature.outputs else ()
        if len(fields) != 1 or len(fields[0].shape) != 1 or not fields[0].datatype.startswith("FP"):
            return None
        return fields[0].shape[0]

    def submit(
        self, items: Sequence[Any], options: CallOptions, done: Callable[[Outcome], None], *, num_bytes: int = 0
    ) -> Ticket:
        """Hand over the rows of a request, each an item among those of others; all of them wait, or none.

        Called on an event loop. `done` is called there, exactly once and never before this returns, unless the ticket
        is cancelled: with one result a row in order, or with why the request was refused or failed, the row named.

        Args:
            items: as the model takes them, or what its `admit` made of them; at least one.
            options: what else the request says.
            done: is told the outcome; must not raise.
            num_bytes: the size of the request: the rows of a large one are checked on a thread.
        """
        loop = asyncio.get_running_loop()
        ticket = Ticket(loop, done)
        if num_bytes > SMALL_BODY_BYTES:
            self.num_admitting += 1
            admitting = loop.run_in_executor(None, self._admit, items)
            admitting.add_done_callback(functools.partial(self._enter_later, ticket, options))
            return ticket
        try:
            self._enter(ticket, options, self._admit(items))
        except CarpoolError as refusal:
            loop.call_soon(ticket.finish, to_fault(refusal))
        return ticket

    async def call(self, items: Sequence[Any], options: CallOptions, *, num_bytes: int = 0) -> Answer:
        """Run the rows of a request; being cancelled withdraws what still waits.

        Args:
            items: as for `submit`.
            options: as for `submit`.
            num_bytes: as for `submit`.

        Raises:
            CarpoolError: a row was refused or failed, which is named.
        """
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            if not answered.done():  # cancelled in this very turn of the loop
                answered.set_result(outcome)

        ticket = self.submit(items, options, done, num_bytes=num_bytes)
        try:
            outcome = await answered
        except asyncio.CancelledError:
            ticket.cancel()
            raise
        if isinstance(outcome, CarpoolError):
            raise outcome
        return Answer(results=outcome, lengths=ticket.lengths)

    def _admit(self, items: Sequence[Any]) -> list[Admitted]:
        """Check and prepare the rows of a request; safe on any thread."""
        admitted = []
        for row, item in enumerate(items):
            try:
                admitted.append(item if isinstance(item, Admitted) else self.model.admit(item))
            except CarpoolError as error:
                raise to_fault(error, position=row, num_items=len(items)) from error
        return admitted

    def _enter_later(self, ticket: Ticket, options: CallOptions, admitting: asyncio.Future[list[Admitted]]) -> None:
        """Enter rows that were checked on a thread; back on the loop."""
        self.num_admitting -= 1
        try:
            rows = admitting.result()
            if not ticket.cancelled():
                self._enter(ticket, options, rows)
        except CarpoolError as refusal:
            ticket.finish(to_fault(refusal))
        except Exception:
            _logger.exception("unexpected failure, a fault in carpool or the model, in checking a request")
            ticket.finish(Fault(FAILED, "the request could not be checked, unexpectedly: the server's log says how"))

    def _enter(self, ticket: Ticket, options: CallOptions, rows: list[Admitted]) -> None:
        """Let rows wait for their batches.

        Raises:
            CarpoolError: they are refused.
        """
        ticket.lengths = tuple([row.length for row in rows])
        handles = ticket.handles(len(rows))
        told: dict[str, Any] = {
            "deadline_s": options.timeout_s or self._request_timeout_s,
            "priority": options.priority,
            "tenant": options.tenant,
            "request_id": options.request_id,
        }
        entrance = self._entrance
        if len(rows) <= self.batcher.policy.max_queue:
            ticket.accepted(entrance.submit(rows, handles, **told), entrance.withdraw)
            return
        self._check_time(len(rows), told["deadline_s"])
        feeding = Feeding(entrance, rows, handles, window=self._window, options=told)
        ticket.accepted((), feeding.withdraw)
        feeding.start()

    @property
    def _window(self) -> int:
        """How many rows of one large request may wait at a time: enough to fill batches, and to match lengths."""
        policy = self.batcher.policy
        return max(1, min(policy.max_queue // 2, max(policy.look_ahead, 2 * policy.max_batch_size * self.num_workers)))

    def _check_time(self, num_rows: int, timeout_s: float | None) -> None:
        """Refuse a large request that can't be answered in its time.

        Raises:
            DeadlineExceeded: it is predicted to take longer.
        """
        outlook = self.batcher.outlook()
        taken_s = outlook.delay_s + num_rows * outlook.item_s / self.num_workers
        if timeout_s is not None and taken_s > timeout_s:
            raise DeadlineExceeded(
                f"{num_rows:,} rows are predicted to take {taken_s:.3g} s, and the request has {timeout_s:.3g} s: "
                "send fewer rows in a request, or allow more time",
                retry_after_s=outlook.delay_s,
            )

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let the model go."""
        self.batcher.close(timeout_s)


def tensor_names(kind: str) -> tuple[str, str]:
    """Name the input and the output of a model whose items and results are single tensors."""
    return ("text", "embedding") if kind == "encoder" else ("input", "output")


def learn_signature(model: Model) -> Signature:
    """Run a few examples, and read off what a model takes and gives.

    Args:
        model: loaded; called on the thread that runs it.

    Returns:
        A signature that says nothing where the model has no examples.

    Raises:
        CarpoolError: an example is refused or fails.
    """
    try:
        examples = model.examples(NUM_EXAMPLES)
    except ConfigError:
        return Signature()
    if not examples:
        return Signature()
    results = model.run([model.admit(example).payload for example in examples])
    input_name, output_name = tensor_names(model.info.kind)
    return Signature(inputs=describe(examples, name=input_name), outputs=describe(list(results), name=output_name))
