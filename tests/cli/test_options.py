"""Values of options as people write them."""

from __future__ import annotations

from itertools import pairwise

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from carpool.cli.options import BATCH_SIZES, BYTES, DURATION, LENGTHS, OBJECTIVE, RATE, WAIT, Parsed, parse_sizes
from carpool.signals.objective import Objective


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (DURATION, "50ms", 0.05),
        (WAIT, "0", 0.0),
        (BYTES, "2GiB", 2 << 30),
        (BATCH_SIZES, "1,2,4", (1, 2, 4)),
        (BATCH_SIZES, " 4, 1,4 ", (1, 4)),
        (BATCH_SIZES, "1..256", (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        (BATCH_SIZES, "3..20", (3, 6, 12, 20)),
        (BATCH_SIZES, "1..4,100", (1, 2, 4, 100)),
        (BATCH_SIZES, "7..7", (7,)),
        (LENGTHS, "16,128", (16, 128)),
        (OBJECTIVE, "p99=50ms", Objective(0.99, 0.05)),
        (OBJECTIVE, " p99.9 = 2s", Objective(0.999, 2.0)),
        (RATE, "0.5", 0.5),
    ],
)
def test_values_are_read(kind: Parsed, text: str, value: object) -> None:
    """Every kind reads what its help says."""
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (DURATION, "0s", "'0s' is no time at all: give more than 0, such as 30s"),
        (DURATION, "fast", "'fast' is not a duration"),
        (WAIT, "-1ms", "'-1ms' is not a duration"),
        (BYTES, "2 GigaWatt", "'2 GigaWatt' is not a size"),
        (BATCH_SIZES, "0", "a batch size of 0 is outside 1 to 1,048,576: name sizes within it"),
        (BATCH_SIZES, "1,2,9999999", "a batch size of 9999999 is outside"),
        (BATCH_SIZES, "1,,2", "'' is not a whole number: write a list such as 1,2,4"),
        (BATCH_SIZES, "8..2", "the range '8..2' runs downwards: write 2..8"),
        (LENGTHS, "-5", "a length of -5 is outside 1 to"),
        (OBJECTIVE, "50ms", "'50ms' is not an objective: write a percentile and a latency, such as p99=50ms"),
        (OBJECTIVE, "p0=50ms", "'p0=50ms' is not an objective"),
        (OBJECTIVE, "p100=50ms", "'p100=50ms' is not an objective"),
        (OBJECTIVE, "p99=0", "'p99=0' allows no time at all"),
        (OBJECTIVE, "p99=soon", "'soon' is not a duration"),
        (RATE, "nan", "a rate of nan a second is not a finite number above 0"),
        (RATE, "-3", "a rate of -3 a second is not"),
        (RATE, "many", "'many' is not a number"),
    ],
)
def test_wrong_values_are_named_with_the_remedy(kind: Parsed, text: str, message: str) -> None:
    """A mistake is click's usage error (exit 2) that shows the option and says what to write."""

    @click.command()
    @click.option("--it", type=kind)
    def command(it: object) -> None:
        """Never called."""

    result = CliRunner().invoke(command, [f"--it={text}"])
    assert result.exit_code == 2
    assert "Invalid value for '--it'" in result.output
    assert message in result.output


@given(low=st.integers(1, 1000), high=st.integers(1, 100_000))
def test_a_range_doubles_from_its_first_to_its_last(low: int, high: int) -> None:
    """A range holds both its ends, rises, and never more than doubles."""
    low, high = sorted((low, high))
    sizes = parse_sizes(f"{low}..{high}", what="batch size")
    assert (sizes[0], sizes[-1]) == (low, high)
    assert all(before < after <= 2 * before for before, after in pairwise(sizes))
