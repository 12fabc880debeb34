"""Whether an item's output depends on its batch-mates."""

from typing import Any

import numpy as np
import pytest

from carpool.errors import CarpoolError, ModelError
from carpool.profile.quality import compare_batches

PAYLOADS = [np.array([float(i), 1.0, -2.0]) for i in range(1, 20)]


def honest(payloads: list[Any]) -> list[Any]:
    """Each item for itself."""
    return [payload * 2.0 for payload in payloads]


def centred(payloads: list[Any]) -> list[Any]:
    """Subtracts the batch's mean: what batch normalisation in training mode does."""
    return list(np.asarray(payloads) - np.mean(payloads, axis=0) * (len(payloads) > 1))


def test_independent_items_are_equal_in_every_batch() -> None:
    """Nothing differs, and the cosine is 1."""
    quality = compare_batches(honest, PAYLOADS, [1, 2, 8, 64], dtype="float32")
    assert [one.batch_size for one in quality.sizes] == [2, 8, 64]
    assert quality.dependent_sizes == ()
    assert all(one.max_abs_diff == 0.0 and one.min_cosine == 1.0 for one in quality.sizes)


def test_statistics_over_the_batch_are_flagged_at_every_size() -> None:
    """A model that subtracts its batch's mean is found at each size, with the difference."""
    quality = compare_batches(centred, PAYLOADS, [2, 8], dtype="float32")
    assert quality.dependent_sizes == (2, 8)
    assert all((one.max_abs_diff or 0.0) > 1.0 for one in quality.sizes)


@pytest.mark.parametrize(("dtype", "depends"), [("float32", True), ("bfloat16", False)])
def test_tolerance_is_that_of_the_dtype(dtype: str, depends: bool) -> None:
    """A difference of 2 % is rounding in bfloat16 and a fault in float32."""

    def shifted(payloads: list[Any]) -> list[Any]:
        return [payload * (1.0 + 0.02 * (len(payloads) > 1)) for payload in payloads]

    quality = compare_batches(shifted, PAYLOADS, [4], dtype=dtype)
    assert bool(quality.dependent_sizes) is depends


@pytest.mark.parametrize(
    ("results", "depends"),
    [
        (lambda payloads: [str(len(payload)) for payload in payloads], False),
        (lambda payloads: [f"{len(payloads)} of us" for _ in payloads], True),
    ],
)
def test_outputs_that_are_no_numbers_must_be_equal(results: Any, depends: bool) -> None:
    """Texts are compared as they are."""
    assert bool(compare_batches(results, PAYLOADS, [2], dtype="").dependent_sizes) is depends


def test_nested_outputs_are_compared_number_by_number() -> None:
    """Dicts and tuples of arrays count as all their numbers."""
    quality = compare_batches(
        lambda payloads: [{"a": payload, "b": (payload, np.float32(len(payloads)))} for payload in payloads],
        PAYLOADS,
        [4],
        dtype="float32",
    )
    assert quality.sizes[0].max_abs_diff == 3.0


def test_outputs_of_another_shape_are_flagged() -> None:
    """An item whose output grows with the batch depends on it."""
    quality = compare_batches(
        lambda payloads: [np.ones(len(payloads)) for _ in payloads], PAYLOADS, [4], dtype="float32"
    )
    assert quality.dependent_sizes == (4,)
    assert "shape" in quality.sizes[0].error


def test_sizes_that_fail_or_find_no_time_are_told_from_equal_ones() -> None:
    """A batch that raises is neither equal nor dependent, and sizes without time are left out."""

    def failing(payloads: list[Any]) -> list[Any]:
        if len(payloads) == 4:
            raise ModelError("no fours")
        return honest(payloads)

    quality = compare_batches(failing, PAYLOADS, [2, 4, 8, 16], dtype="", may_go_on=lambda size: size < 16)
    assert [(one.batch_size, one.error) for one in quality.sizes] == [(2, ""), (4, "no fours"), (8, "")]


def test_items_that_fail_alone_are_reported() -> None:
    """Nothing can be compared when single items fail."""

    def nan(payloads: list[Any]) -> list[CarpoolError]:
        return [ModelError("the model returned NaN") for _ in payloads]

    quality = compare_batches(nan, PAYLOADS, [2], dtype="float32")
    assert quality.sizes == ()
    assert "NaN" in quality.error
