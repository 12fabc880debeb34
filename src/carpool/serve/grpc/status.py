"""What a client is told over gRPC when a call can't be answered: a status code, a sentence, and when to come back."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

import grpc

from carpool.serve.faults import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_FOUND,
    TOO_LARGE,
    TOO_LATE,
    TOO_MANY,
    UNAUTHORIZED,
    UNAVAILABLE,
    Fault,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_CODES: Mapping[int, grpc.StatusCode] = MappingProxyType(
    {
        BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
        UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
        FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
        NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        409: grpc.StatusCode.FAILED_PRECONDITION,
        TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
        TOO_MANY: grpc.StatusCode.UNAVAILABLE,  # as Triton's full queue, which is what gRPC's clients come back after
        501: grpc.StatusCode.UNIMPLEMENTED,
        UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        TOO_LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


def status_code(fault: Fault) -> grpc.StatusCode:
    """Return the status code that means what the HTTP status of a fault does.

    >>> status_code(Fault(429, "the queue is full")).name
    'UNAVAILABLE'
    """
    return _CODES.get(fault.status, grpc.StatusCode.INTERNAL)


def retry_metadata(fault: Fault) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata that tells when to come back: gRPC's own retries wait for so long.

    Source: https://github.com/grpc/proposal/blob/master/A6-client-retries.md (pushback)

    >>> retry_metadata(Fault(503, "the queue is full", retry_after_s=0.25))[0]
    ('grpc-retry-pushback-ms', '250')
    """
    if fault.retry_after_s is None:
        return ()
    milliseconds = str(max(1, math.ceil(1000 * fault.retry_after_s)))
    return (("grpc-retry-pushback-ms", milliseconds), ("retry-after-ms", milliseconds))
