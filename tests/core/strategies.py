"""Shared Hypothesis strategies: policies, items and traces of what may happen to them."""

import math

from hypothesis import strategies as st

from carpool.core import AffineCost, Item, Policy

lengths = st.integers(1, 64)
costs = st.builds(AffineCost, overhead_s=st.floats(1e-4, 0.1), token_s=st.floats(1e-6, 1e-3))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Policies of every kind, in which an item of up to 64 tokens always fits."""
    max_batch_size = draw(st.integers(1, 12))
    return Policy(
        max_batch_size=max_batch_size,
        max_wait_s=draw(st.sampled_from([0.0, 0.002, 0.05])),
        token_budget=draw(st.none() | st.integers(64, 512)),
        ragged=draw(st.booleans()),
        token_buckets=draw(st.sampled_from([(), (8, 16, 32, 64, 128, 256, 512)])),
        length_buckets=draw(st.sampled_from([(), (16, 32, 64), (8, 64)])),
        batch_size_buckets=draw(st.sampled_from([(), (1, 2, 4, 8, 16)])),
        look_ahead=draw(st.integers(1, 32)),
        max_queue=draw(st.integers(1, 40)),
        tenant_weights=draw(st.sampled_from([{}, {"a": 2.0}])),
    )


@st.composite
def items(draw: st.DrawFn, now: float = 0.0) -> Item:
    """Items that arrive at `now`."""
    return Item(
        arrived_at=now,
        length=draw(lengths),
        deadline_at=draw(st.just(math.inf) | st.floats(0.001, 5.0).map(lambda slack: now + slack)),
        priority=draw(st.integers(-2, 2)),
        tenant=draw(st.sampled_from(["", "a", "b"])),
    )
