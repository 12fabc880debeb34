"""Weighted shares between tenants, over time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.fairness import FairShares


def serve(shares: FairShares, tenants: list[str], num_turns: int, tokens: float = 1.0) -> list[str]:
    """Serve, a turn each, the tenant that has had least; return who was served."""
    turns = []
    for _ in range(num_turns):
        turns.append(min(tenants, key=shares.served))
        shares.charge(turns[-1], tokens)
    return turns


def test_weight_defaults_to_one() -> None:
    """A tenant that nobody named counts like any other."""
    assert FairShares({"a": 2.0}).weight("b") == 1.0


def test_double_weight_gets_double_service() -> None:
    """Under saturation the shares are those of the weights."""
    turns = serve(FairShares({"a": 2.0}), ["a", "b"], 300)
    assert turns.count("a") == pytest.approx(200, abs=1)


def test_idling_saves_up_nothing() -> None:
    """A tenant that comes back shares evenly from then on; it is not served alone until it has caught up."""
    shares = FairShares({})
    serve(shares, ["a"], 100)
    shares.activate("b")
    assert serve(shares, ["a", "b"], 10).count("b") in {5, 6}


def test_leaving_and_coming_back_gains_nothing() -> None:
    """A tenant that is ahead stays ahead when it comes back while others wait."""
    shares = FairShares({})
    shares.charge("a", 50.0)
    shares.activate("a")
    assert serve(shares, ["a", "b"], 50).count("a") == 0


def test_accounts_are_closed_when_nobody_waits() -> None:
    """Old service means nothing once there is no contention."""
    shares = FairShares({})
    shares.charge("a", 1000.0)
    shares.close_accounts()
    assert shares.served("a") == 0.0


@given(
    st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 10.0), min_size=2),
    st.lists(st.integers(1, 100), min_size=50, max_size=200),
)
def test_no_tenant_is_ahead_by_more_than_one_turn(weights: dict[str, float], costs: list[int]) -> None:
    """Whatever the costs, the counters of those that always wait differ by at most the largest single charge."""
    shares, tenants = FairShares(weights), sorted(weights)
    for tokens in costs:
        shares.charge(min(tenants, key=shares.served), tokens)
    served = [shares.served(tenant) for tenant in tenants]
    assert max(served) - min(served) <= 100 / min(weights.values()) + 1e-9
