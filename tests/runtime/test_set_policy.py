"""Changing the policy of a batcher that runs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from carpool.core import Policy
from carpool.errors import BatcherClosed, ConfigError
from carpool.runtime.batcher import Batcher
from tests.runtime.fakes import Gate, double


def test_the_policy_changes_between_two_batches_and_nothing_is_dropped() -> None:
    """What waits behind a batch that runs goes by the new policy."""
    gate = Gate()
    with Batcher(gate, max_batch_size=1) as batcher, ThreadPoolExecutor(1) as pool:
        first = pool.submit(batcher.map, [1])
        gate.entered.wait(30)
        later = threading.Thread(target=batcher.map, args=([2, 3, 4],))
        later.start()
        while batcher.num_waiting < 2:  # as many as a window of one feeds
            pass
        batcher.set_policy(Policy(max_batch_size=8))
        gate.opened.set()
        later.join(30)
    assert first.result(30) == [2]
    assert gate.batches[0] == [1]
    assert gate.batches[1][:2] == [2, 3]
    assert sorted(number for batch in gate.batches for number in batch) == [1, 2, 3, 4]


def test_the_fill_ratio_is_of_the_policy_in_force() -> None:
    """One item of one is full; one of four is a quarter."""
    with Batcher(double, max_batch_size=1) as batcher:
        batcher.map([1])
        batcher.set_policy(Policy(max_batch_size=4))
        batcher.map([1])
        assert batcher.policy.max_batch_size == batcher.metrics.max_batch_size == 4
        assert batcher.metrics.totals().fill.total == 1.25


def test_a_policy_that_can_not_be_kept_is_refused_and_the_old_one_stays() -> None:
    """A limit of memory needs a cost model that predicts it."""
    with Batcher(double, max_batch_size=3) as batcher:
        with pytest.raises(ConfigError, match="does not predict memory"):
            batcher.set_policy(Policy(memory_limit_bytes=1))
        assert batcher.policy.max_batch_size == 3
        assert batcher.map([1]) == [2]


def test_a_batcher_that_does_not_run_has_no_policy_to_change() -> None:
    """It would be read again when it starts."""
    with pytest.raises(BatcherClosed, match="is not running"):
        Batcher(double).set_policy(Policy())
