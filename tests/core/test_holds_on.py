"""A worker is left asleep at an arrival only where looking again would tell it to wait on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.core import BatchFormer, Dispatch, Item, Policy, Wait
from carpool.core.cost import AffineCost
from carpool.errors import DeadlineExceeded

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "arrive", "urgent", "background", "poll", "finish"]),
        st.floats(0.0, 0.002),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(2, 8), st.sampled_from([0.0, 0.001, 0.01]))
def test_what_is_held_on_would_be_held_by_a_poll(
    steps: list[tuple[str, float]], max_batch_size: int, max_wait_s: float
) -> None:
    """Whatever arrives, however urgent, and whenever batches come back."""
    former = BatchFormer(
        Policy(max_batch_size=max_batch_size, max_wait_s=max_wait_s), AffineCost(overhead_s=0.002, token_s=0.0001)
    )
    now, until, running = 1.0, 0.0, None
    for what, later_s in steps:
        now += later_s
        if what == "finish" and running is not None:
            former.succeeded(running, now)
            running = None
        elif what not in {"finish", "poll"}:
            deadline_at = now + (0.004 if what == "urgent" else 60.0)
            item = Item(arrived_at=now, deadline_at=deadline_at, priority=-1 if what == "background" else 0)
            try:
                former.add(item, now)
            except DeadlineExceeded:  # refused: it does not wait
                continue
            if running is None and former.holds_on(item, now):
                answer = former.poll(now)
                assert isinstance(answer, Wait)
                assert answer.until >= until
        if running is None:
            answer = former.poll(now)
            running = answer.batch if isinstance(answer, Dispatch) else None
            until = answer.until if isinstance(answer, Wait) else now


def test_a_full_batch_is_never_held_on() -> None:
    """Nor is what nobody has held back yet."""
    former = BatchFormer(Policy(max_batch_size=2, max_wait_s=1.0), AffineCost(overhead_s=1.0, token_s=0.1))
    items = [Item(arrived_at=float(number)) for number in range(2)]
    former.add(items[0], 0.0)
    assert not former.holds_on(items[0], 0.0)
    former.add(items[1], 1.0)
    assert not former.holds_on(items[1], 1.0)
