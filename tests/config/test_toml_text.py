"""TOML that we write reads back as it was, by Python's own reader."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.config.toml_text import to_toml
from carpool.errors import ConfigError

scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
tables: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), scalars | st.lists(scalars), max_size=4),
    lambda inner: st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), scalars | inner, max_size=4),
    max_leaves=6,
)


@given(tables)
def test_whatever_is_written_reads_back_the_same(document: dict[str, Any]) -> None:
    """Quotes, control characters, emoji, empty tables and names, large and tiny numbers: nothing is lost."""
    assert tomllib.loads(to_toml(document)) == document


def test_what_is_none_is_left_out_and_tables_follow_values() -> None:
    """A value after a table would belong to the table."""
    text = to_toml({"model": {"target": "demo:null", "dtype": None}, "profile": "p.json"})
    assert text == 'profile = "p.json"\n\n[model]\ntarget = "demo:null"\n'


def test_a_comment_stands_first() -> None:
    """Every line of it is a comment, whatever it holds."""
    text = to_toml({"port": 1}, comment='A plan.\n\n[not] = "a table"')
    assert text == '# A plan.\n#\n# [not] = "a table"\n\nport = 1\n'
    assert tomllib.loads(text) == {"port": 1}


def test_numbers_that_json_lacks_are_written_too() -> None:
    """TOML has infinity and NaN."""
    found = tomllib.loads(to_toml({"a": math.inf, "b": -math.inf, "c": math.nan}))
    assert (found["a"], found["b"], math.isnan(found["c"])) == (math.inf, -math.inf, True)


@pytest.mark.parametrize("value", [object(), b"bytes", {1, 2}, "a path with \udcff in it"])
def test_what_a_file_cannot_hold_is_refused(value: object) -> None:
    """Rather than written as something else."""
    with pytest.raises(ConfigError, match=r"TOML file"):
        to_toml({"key": value})
