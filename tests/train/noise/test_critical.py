"""What a batch costs in steps and in examples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.noise.critical import more_examples, more_steps

sizes = st.floats(1e-3, 1e9)


@given(sizes, sizes)
def test_steps_and_examples_lie_on_the_hyperbola(batch_size: float, critical: float) -> None:
    """`(steps / least - 1) (examples / least - 1) = 1`, as McCandlish and others have it."""
    steps, examples = more_steps(batch_size, critical), more_examples(batch_size, critical)
    assert 1 / steps + 1 / examples == pytest.approx(1.0)


@pytest.mark.parametrize(("batch_size", "critical"), [(0, 1), (1, 0), (1, float("inf")), (float("nan"), 1), (-1, 1)])
def test_sizes_that_are_none_are_refused(batch_size: float, critical: float) -> None:
    """A noise scale that is not identified is infinite, and no critical batch size."""
    for function in (more_steps, more_examples):
        with pytest.raises(ConfigError, match="must be a finite number above 0"):
            function(batch_size, critical)
