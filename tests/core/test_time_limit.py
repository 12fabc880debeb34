"""How many tokens of prompts a step may hold."""

from hypothesis import given
from hypothesis import strategies as st

from carpool.core.cost import LinearStepTime
from carpool.core.sequence import Sequence
from carpool.core.step import Chunk, StepWork
from carpool.core.time_limit import most_tokens_in_time, work_of


@given(
    limit_s=st.floats(0.0, 0.2),
    start=st.integers(0, 5000),
    least=st.integers(1, 64),
    most=st.integers(0, 600),
    pair_s=st.sampled_from([0.0, 1e-7]),
)
def test_as_many_as_the_time_allows(limit_s: float, start: int, least: int, most: int, pair_s: float) -> None:
    """One more would take too long; never below the least, nor above the most."""
    model = LinearStepTime(step_s=0.01, token_s=0.0003, kv_s=1e-6, pair_s=pair_s)
    singles = StepWork(10, 10, 10, 1000, 0.0)

    def takes_s(count: int) -> float:
        return model.time_s(StepWork(10 + count, 11, 11, 1000, count * (start + count / 2)))

    found = most_tokens_in_time(model, limit_s, singles, start=start, least_tokens=least, most_tokens=most)
    assert min(least, most) <= found <= most
    assert takes_s(found) <= limit_s or found == min(least, most)
    assert found == most or takes_s(found + 1) > limit_s


def test_work_adds_up() -> None:
    """Single tokens read the cache, longer pieces look at pairs."""
    sequence = Sequence(tokens=[0] * 30, max_new_tokens=1)
    chunks = [Chunk(sequence, 9, 1, samples=True), Chunk(sequence, 10, 4, samples=False)]
    assert work_of(chunks) == StepWork(5, 2, 1, 10, 4 * 12.0)
    assert work_of(chunks[1:], work_of(chunks[:1])) == work_of(chunks)
