"""Every error that Carpool raises on purpose.

The tree::

    CarpoolError
    |-- ConfigError            what was asked for cannot be (the command line exits with 2)
    |   |-- TargetError        a model's TARGET does not name something that can be run
    |   `-- SchemaError        a file of ours has an unknown version, key or type
    |-- Rejected               not accepted; `retry_after_s` says when to come back
    |   |-- QueueFull
    |   `-- DeadlineExceeded   the deadline passed while waiting, or cannot be met
    |-- InvalidItem            this item can't join a batch
    |-- ModelError             the model raised, or returned what it must not
    |   |-- WrongResultCount   it did not return one result an item, so that nobody knows whose they are
    |   |-- WorkerDied         the process that ran it ended
    |   `-- ModelHung          it did not return in time
    |-- OutOfMemory            the work does not fit, even alone
    |-- OutOfRange             a question beyond what was measured
    |-- BatcherClosed          work was handed to a batcher that is shut or shutting
    |-- DispatcherDied         the thread that forms batches stopped unexpectedly
    `-- ConnectionFailed       a server could not be reached

A message holds the value, the limit and the remedy.
"""


class CarpoolError(Exception):
    """The root of the tree: catch it to catch everything that Carpool raises on purpose."""


class ConfigError(CarpoolError):
    """What was asked for cannot be: a wrong option, value or combination."""


class TargetError(ConfigError):
    """A TARGET does not name something that can be loaded and run."""


class SchemaError(ConfigError):
    """A file that Carpool reads has an unknown version, key or type."""


class Rejected(CarpoolError):
    """An item was not accepted, and nothing was computed for it.

    Args:
        message: the value, the limit and the remedy.
        retry_after_s: seconds after which a new attempt may succeed; None when waiting does not help.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Rejected):
    """The queue holds as many items as it may."""


class DeadlineExceeded(Rejected):
    """An item's deadline passed while it waited, or cannot be met by the predicted queue."""


class InvalidItem(CarpoolError):
    """An item is not something that the model takes."""


class ModelError(CarpoolError):
    """The model raised, or returned something other than one finite result an item."""


class WrongResultCount(ModelError):
    """The model did not return one result an item; the whole batch fails, since nobody knows whose the results are."""


class WorkerDied(ModelError):
    """The process that ran the model ended: by a signal, by its own exit, or by the system for want of memory."""


class ModelHung(ModelError):
    """A call of the model took longer than it may; it was ended where that can be done."""


class OutOfMemory(CarpoolError):
    """The work needs more memory than there is."""


class OutOfRange(CarpoolError):
    """A prediction was asked for beyond the range that was measured."""


class BatcherClosed(CarpoolError):
    """An item was handed to a batcher that no longer accepts any."""


class DispatcherDied(CarpoolError):
    """The thread that forms and runs batches stopped unexpectedly."""


class ConnectionFailed(CarpoolError):
    """A server could not be reached."""
