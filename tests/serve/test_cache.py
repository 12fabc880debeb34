"""The results that are kept."""

from __future__ import annotations

import numpy as np

from carpool.serve.cache import ResponseCache


def test_the_result_whose_use_is_longest_ago_goes_first() -> None:
    """A use is a put or a get."""
    cache = ResponseCache(size_bytes=1000)
    for key in (b"a", b"b", b"c"):
        cache.put(key, b"", 0.0)
    cache.get(b"a", 1.0)
    cache.put(b"d", b"", 2.0)
    assert [cache.get(key, 3.0) for key in (b"a", b"b", b"c", b"d")] == [(b"",), None, (b"",), (b"",)]
    assert (cache.num_evicted, len(cache)) == (1, 3)


def test_bytes_are_counted_and_given_back() -> None:
    """Those of arrays by their own bytes."""
    cache = ResponseCache(size_bytes=1 << 20)
    cache.put(b"a", np.zeros(1000, np.float32), 0.0)
    assert 4000 <= cache.size_bytes <= 5000
    cache.put(b"a", np.zeros(10, np.float32), 0.0)
    assert cache.size_bytes < 1000
    cache.clear()
    assert (cache.size_bytes, cache.get(b"a", 0.0)) == (0, None)


def test_a_result_that_is_too_large_is_not_kept() -> None:
    """And evicts nothing."""
    cache = ResponseCache(size_bytes=1000)
    cache.put(b"small", 1, 0.0)
    cache.put(b"large", b"x" * 1000, 0.0)
    assert (cache.get(b"large", 0.0), cache.get(b"small", 0.0)) == (None, (1,))


def test_a_row_of_a_batch_does_not_keep_the_batch() -> None:
    """It is a copy, which nobody can write to."""
    batch = np.zeros((1000, 4), np.float32)
    cache = ResponseCache(size_bytes=1 << 20)
    cache.put(b"row", {"y": [batch[3]]}, 0.0)
    batch[3] = 1.0
    found = cache.get(b"row", 0.0)
    assert found is not None
    row = found[0]["y"][0]
    assert (row.base, row.tolist(), row.flags.writeable) == (None, [0.0] * 4, False)


def test_results_end_with_their_time() -> None:
    """Whether they are used or not."""
    cache = ResponseCache(size_bytes=1000, ttl_s=2.0)
    cache.put(b"a", 1, 0.0)
    assert (cache.get(b"a", 1.9), cache.get(b"a", 2.0), cache.size_bytes) == ((1,), None, 0)
