"""What became of each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

OK = "ok"
TIMEOUT = "timeout"  # no answer within the limit; the latency is at least that
OPEN = "open"  # still unanswered when the run was stopped; the latency is at least its age
OVERFLOW = "overflow"  # never sent: as many requests were in flight as allowed
CENSORED = frozenset({TIMEOUT, OPEN})


class Reply(NamedTuple):
    """What came back for one request.

    Args:
        outcome: "ok", or the kind of failure.
        status: The HTTP status; 0 where none came.
        num_bytes: Bytes of the body.
        detail: For a failure, the server's or the system's own words.
    """

    outcome: str
    status: int = 0
    num_bytes: int = 0
    detail: str = ""


class Record(NamedTuple):
    """One request; times in seconds from the start of the run, `sent_at` NaN where it never was."""

    intended_at: float
    sent_at: float
    done_at: float
    outcome: str
    status: int
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What a run of load recorded: arrays over its n requests, in the order of their intended times.

    Args:
        intended_at: When each was meant to be sent, seconds from the start [n].
        sent_at: When it was [n]; NaN where it never was.
        done_at: When its answer was complete, or it was given up [n].
        outcome: "ok" or the kind of failure [n].
        status: HTTP status, 0 where none came [n].
        num_bytes: Bytes of each answer [n].
        window_s: Length of the time in which requests were being sent, seconds.
        interrupted: Whether it was stopped before its end.
        cpu_share: CPU time of this process over elapsed time while sending; 1 is one core.
        connections: Clients of a closed loop; None for an open one.
        details: For each kind of failure, the words of the first one.
    """

    intended_at: NDArray[np.float64]
    sent_at: NDArray[np.float64]
    done_at: NDArray[np.float64]
    outcome: NDArray[np.str_]
    status: NDArray[np.int64]
    num_bytes: NDArray[np.int64]
    window_s: float
    interrupted: bool = False
    cpu_share: float = 0.0
    connections: int | None = None
    details: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Whether each was answered with success [n]."""
        return np.asarray(self.outcome == OK, dtype=np.bool_)

    @property
    def latency_s(self) -> NDArray[np.float64]:
        """Seconds from when each was meant to be sent to its end [n]; a lower bound for a timeout or an open one."""
        return self.done_at - self.intended_at

    @property
    def lag_s(self) -> NDArray[np.float64]:
        """Seconds by which the generator itself was late, for those that were sent [m]."""
        lag = self.sent_at - self.intended_at
        return lag[~np.isnan(lag)]


class Journal:
    """Collects the records of a run in progress."""

    __slots__ = ("details", "num_failed", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.details: dict[str, str] = {}
        self.num_failed = 0

    def note(self, intended_at: float, sent_at: float, done_at: float, reply: Reply) -> None:
        """Keep what became of one request."""
        self.records.append(Record(intended_at, sent_at, done_at, reply.outcome, reply.status, reply.num_bytes))
        if reply.outcome != OK:
            self.num_failed += 1
            self.details.setdefault(reply.outcome, reply.detail)

    def close(
        self, *, window_s: float, interrupted: bool, cpu_share: float, connections: int | None = None
    ) -> LoadResult:
        """Give the result of the run."""
        records = sorted(self.records, key=lambda record: record.intended_at)
        columns = list(zip(*records, strict=True)) or [()] * len(Record._fields)
        return LoadResult(
            intended_at=np.array(columns[0], dtype=np.float64),
            sent_at=np.array(columns[1], dtype=np.float64),
            done_at=np.array(columns[2], dtype=np.float64),
            outcome=np.array(columns[3], dtype=np.str_),
            status=np.array(columns[4], dtype=np.int64),
            num_bytes=np.array(columns[5], dtype=np.int64),
            window_s=window_s,
            interrupted=interrupted,
            cpu_share=cpu_share,
            connections=connections,
            details=MappingProxyType(dict(self.details)),
        )
