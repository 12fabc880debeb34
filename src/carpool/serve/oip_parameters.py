"""The parameters of an inference request that mean the same over REST and over gRPC."""

from __future__ import annotations

import reprlib
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.serve.faults import bad_request

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL_LEVEL = 2
NUM_LEVELS = 1_000_000
_LONGEST_US = 10**15


class Parameters(msgspec.Struct, frozen=True):
    """The parameters that mean something here; clients may send others.

    Args:
        priority: the level, of which lower ones go sooner; 0 says nothing.
        timeout: microseconds that the request may wait for its batch, which is then finished; 0 says nothing.
        sequence_id: the sequence that the request belongs to; 0 or empty for none.
        binary_data_output: whether outputs that do not say otherwise are sent as bytes.
    """

    priority: int = 0
    timeout: int = 0
    sequence_id: int | str = 0
    binary_data_output: bool = False

    @property
    def timeout_s(self) -> float | None:
        """Seconds that the request may wait for its batch; None where the client leaves that to the server.

        Raises:
            Fault: it is below zero.
        """
        if self.timeout < 0:
            raise bad_request(
                f"the timeout is {reprlib.repr(self.timeout)} us: give microseconds above 0, or leave it out"
            )
        return min(self.timeout, _LONGEST_US) / 1e6 or None

    @property
    def item_priority(self) -> int:
        """The priority as batches are formed by it, where higher goes sooner and below zero gives way to the rest.

        Triton numbers its levels from 1, the first to go, and 0 leaves the level to the model. Here the usual level is
        2: there is one ahead of it (1 becomes 1), and all others give way to it (3 becomes -1). Levels below 0, which
        Triton has none of, go sooner still (-1 becomes 2).

        Raises:
            Fault: there is no such level.

        Source: the schedule policy extension of NVIDIA Triton (docs/protocol/extension_schedule_policy.md)

        >>> [Parameters(priority=level).item_priority for level in (-2, -1, 0, 1, 2, 3)]
        [3, 2, 0, 1, 0, -1]
        """
        level = self.priority
        if not -NUM_LEVELS <= level <= NUM_LEVELS:
            levels = f"1 goes before the usual {USUAL_LEVEL}, and higher ones give way"
            raise bad_request(f"the priority must be from {-NUM_LEVELS:,} to {NUM_LEVELS:,}: {levels}")
        if level < 0:
            return USUAL_LEVEL - 1 - level
        return USUAL_LEVEL - level if level else 0

    def check_alone(self) -> None:
        """Refuse a request that is a part of a sequence.

        Raises:
            Fault: it says that it is.
        """
        if self.sequence_id:
            raise bad_request(
                "the request has a sequence_id, and no state is kept from one request to the next here: leave it out, "
                "and send all that the model needs"
            )


def priority_level(item_priority: int) -> int:
    """Return the level that a request gives for items of a priority: what `Parameters.item_priority` turns back.

    Args:
        item_priority: higher goes sooner; 0 is usual.

    >>> [priority_level(priority) for priority in (3, 2, 1, 0, -1)]
    [-2, -1, 1, 0, 3]
    """
    if item_priority >= USUAL_LEVEL:
        return USUAL_LEVEL - 1 - item_priority
    return USUAL_LEVEL - item_priority if item_priority else 0


def read_parameters(parameters: Mapping[str, Any]) -> Parameters:
    """Read parameters that have come apart already, as those of gRPC do.

    Args:
        parameters: plain values by name.

    Raises:
        Fault: one of those that mean something here is of another type.
    """
    try:
        return msgspec.convert(dict(parameters), Parameters)
    except msgspec.ValidationError as error:
        raise bad_request(f"the parameters are not what this request takes: {error}") from None
