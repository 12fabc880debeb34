"""The clock that moves when told to."""

import pytest

from carpool.core import Clock, VirtualClock


def test_virtual_clock_moves_only_forward() -> None:
    """It stands still, moves to where it is told, and refuses to go back."""
    clock: Clock = (virtual := VirtualClock(1.0))
    assert clock.now() == 1.0
    virtual.advance_to(1.0)
    virtual.advance_to(2.0)
    assert clock.now() == 2.0
    with pytest.raises(ValueError, match=r"a clock does not go back: 1\.5 lies before 2\.0"):
        virtual.advance_to(1.5)
