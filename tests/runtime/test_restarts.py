"""When a worker that died is started again, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from carpool.runtime.restarts import Restarts


@given(st.integers(1, 4096), st.lists(st.booleans(), max_size=80))
def test_no_worker_is_started_for_ever(max_batch_size: int, starts: list[bool]) -> None:
    """Whether it dies at load or later, a bounded number of attempts ends it; isolation alone never does."""
    restarts = Restarts(max_batch_size)
    for _ in range(2 + max_batch_size.bit_length()):
        assert restarts.pause_s(has_started=True) == 0.0
    pauses = [restarts.pause_s(has_started=has_started) for has_started in [*starts, *[False] * 8]]
    assert pauses[-1] is None
    assert sum(pause or 0.0 for pause in pauses) < 60.0
    restarts.ran()
    assert restarts.pause_s(has_started=True) == 0.0
