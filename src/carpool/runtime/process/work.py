"""What a worker's process does: make the model that its parent describes, and run the batches that it sends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, ModelError
from carpool.models.blame import describe
from carpool.models.target import remake
from carpool.runtime.execute import run_checked
from carpool.runtime.process.channel import Channel, Unreadable
from carpool.runtime.process.rows import pack, pack_error, sendable, unpack

if TYPE_CHECKING:
    from carpool.models.model import Model


def work(channel: Channel) -> None:
    """Serve until the parent hangs up.

    Raises:
        EOFError: it has hung up.
        BrokenPipeError: it has hung up.
    """
    model = _load(channel)
    if model is None:
        return
    try:
        _run_batches(channel, model)
    finally:
        model.close()


def _load(channel: Channel) -> Model | None:
    """Make the model, and say how that went; None where it failed."""
    try:
        recipe, device, num_workers = channel.receive()
        model = remake(recipe, device=device)
        model.share_cores(num_workers)
        model.load()
    except EOFError:
        raise
    except BaseException as error:  # noqa: BLE001 - told to the parent, which waits for it
        told = error if isinstance(error, CarpoolError) else ModelError(f"loading the model raised {describe(error)}")
        channel.send((False, pack_error(told)))
        return None
    channel.send((True, model.info))
    return model


def _run_batches(channel: Channel, model: Model) -> None:
    own = os.getpid()
    while True:
        answer = _answer(channel, model)
        if os.getpid() != own:  # a copy of this process that the model made and let go on: one answer is enough
            os._exit(0)
        try:
            channel.send(answer)
        except BrokenPipeError:
            raise
        except Exception:  # noqa: BLE001 - a result can't be pickled: the others are sent all the same
            channel.send((True, sendable(answer[1])))


def _answer(channel: Channel, model: Model) -> tuple[bool, Any]:
    """Wait for a batch and run it; return whether that went well, and the results or the error."""
    try:
        rows, size = channel.receive()
        return True, pack(run_checked(model.run, unpack(rows), size))
    except Unreadable as error:
        return False, pack_error(ModelError(f"an item can't be read in the worker's process ({error})"))
    except CarpoolError as error:
        return False, pack_error(error)
