"""What is said to whoever is refused: the value, the limit, and when to come back if that is known."""

from carpool.errors import DeadlineExceeded, QueueFull
from carpool.units import counted


def queue_full(num_waiting: int, max_queue: int, wait_s: float) -> QueueFull:
    """Refuse an item for which there is no room.

    Args:
        num_waiting: items that wait.
        max_queue: how many may.
        wait_s: how long they are predicted to take; 0 before anything was learned, and then no number is told.

    >>> print(queue_full(4, 4, 0.5))
    the queue holds 4 items, and max_queue is 4: try again in 0.5 s, or raise max_queue
    """
    return QueueFull(
        f"the queue holds {counted(num_waiting, 'item')}, and max_queue is {max_queue}: "
        f"try again {f'in {wait_s:.3g} s' if wait_s > 0 else 'later'}, or raise max_queue",
        retry_after_s=wait_s or None,
    )


def too_late(left_s: float, taken_s: float, wait_s: float) -> DeadlineExceeded:
    """Refuse an item that can't be done in its time.

    Args:
        left_s: until its deadline.
        taken_s: how long it is predicted to take.
        wait_s: how much of that it waits for others; where it is 0 a later attempt is no better.

    >>> print(too_late(0.1, 0.2, 0.0))
    the deadline is 0.1 s away, and the queue is predicted to take 0.2 s: allow more time
    """
    return DeadlineExceeded(
        f"the deadline is {left_s:.3g} s away, and the queue is predicted to take {taken_s:.3g} s: allow more time"
        + (f", or try again in {wait_s:.3g} s" if wait_s > 0 else ""),
        retry_after_s=wait_s or None,
    )
