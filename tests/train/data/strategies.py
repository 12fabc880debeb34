"""Plans and lengths for the laws of samplers."""

from hypothesis import strategies as st

from carpool.train.batch_plan import BatchPlan

lengths = st.lists(st.integers(1, 30), min_size=1, max_size=60)


@st.composite
def plans(draw: st.DrawFn) -> BatchPlan:
    """Any plan of a few items on a few ranks."""
    num_ranks = draw(st.integers(1, 4))
    return BatchPlan(
        effective_batch_size=draw(st.integers(num_ranks, 24)),
        micro_batch_size=draw(st.integers(1, 10)),
        num_ranks=num_ranks,
    )
