"""Whether an item's output depends on the items that it shares a batch with.

A few items are run alone, and then within batches of every size among others of mixed lengths. Rounding differs between
shapes, so equal to the last bit is not to be had; how far apart two outputs may be is a matter of the dtype:

    dtype       largest difference, relative to the output's own largest value     cosine at least
    float64     1e-9                                                               1 - 1e-12
    float32     1e-3                                                               0.99999
    float16     2e-2                                                               0.999
    bfloat16    1e-1                                                               0.99

Beyond either the item is said to depend on its batch-mates: batch normalisation in training mode, padding that is
not masked, or statistics over the batch. Outputs that are not numbers must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.errors import CarpoolError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

NUM_ITEMS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far apart an item's outputs may be in two batches.

    Args:
        relative: Largest difference, relative to the largest value of the output alone.
        cosine: Smallest cosine between the two.
    """

    relative: float
    cosine: float


TOLERANCES: Mapping[str, Tolerance] = MappingProxyType(
    {
        "float64": Tolerance(relative=1e-9, cosine=1 - 1e-12),
        "float32": Tolerance(relative=1e-3, cosine=0.99999),
        "float16": Tolerance(relative=2e-2, cosine=0.999),
        "bfloat16": Tolerance(relative=1e-1, cosine=0.99),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeQuality:
    """How outputs within batches of one size compare with those alone.

    Args:
        batch_size: Items in the batch.
        max_abs_diff: Largest absolute difference of any number; None where outputs are not numbers.
        max_relative_diff: The same, relative to the largest value of that item's output alone.
        min_cosine: Smallest cosine; None where outputs are not numbers.
        depends: Whether it is beyond the tolerance.
        error: Why it could not be compared; empty where it could.
    """

    batch_size: int
    max_abs_diff: float | None = None
    max_relative_diff: float | None = None
    min_cosine: float | None = None
    depends: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Whether batching changes results.

    Args:
        dtype: What the tolerance is for.
        tolerance: The tolerance.
        num_items: Items that were compared.
        sizes: One entry for each batch size that was tried.
        error: Why nothing could be compared; empty where it could.
    """

    dtype: str
    tolerance: Tolerance
    num_items: int
    sizes: tuple[SizeQuality, ...]
    error: str = ""

    @property
    def dependent_sizes(self) -> tuple[int, ...]:
        """Batch sizes at which an item's output depends on its batch-mates."""
        return tuple(one.batch_size for one in self.sizes if one.depends)


def compare_batches(
    run: Callable[[list[Any]], Sequence[Any]],
    payloads: Sequence[Any],
    batch_sizes: Sequence[int],
    *,
    dtype: str,
    may_go_on: Callable[[int], bool] = lambda _: True,
) -> Quality:
    """Run some items alone and then in batches of each size, and compare.

    Args:
        run: One result, or one `CarpoolError`, for each payload; it may raise `CarpoolError`.
        payloads: Items of mixed lengths; the first few are compared, the others are their company.
        batch_sizes: Sizes to try, ascending; 1 is left out.
        dtype: The model's; where empty, that of the outputs.
        may_go_on: Whether there is time for a batch of this size.
    """
    probes = list(payloads[:NUM_ITEMS])
    try:
        alone = [_one(run([payload])) for payload in probes]
    except CarpoolError as error:
        return Quality(dtype=dtype, tolerance=_tolerance(dtype), num_items=0, sizes=(), error=str(error))
    dtype = dtype if dtype in TOLERANCES else _dtype_of(alone)
    sizes = []
    for size in sorted(set(batch_sizes) - {1}):
        if not may_go_on(size):
            break
        batch, places = _mixed_batch(payloads, size)
        sizes.append(_compare_size(run, batch, [alone[at] for at in range(len(places))], places, _tolerance(dtype)))
    return Quality(dtype=dtype, tolerance=_tolerance(dtype), num_items=len(probes), sizes=tuple(sizes))


def _tolerance(dtype: str) -> Tolerance:
    return TOLERANCES.get(dtype, TOLERANCES["float32"])


def _dtype_of(outputs: Sequence[Any]) -> str:
    """Return the narrowest dtype among the outputs' numbers; plain Python floats have that of their origin, unknown."""
    names = {str(array.dtype) for output in outputs for array in _arrays(output)}
    narrow = [name for name in ("float16", "float32") if name in names]
    return narrow[0] if narrow else "float32"


def _one(results: Sequence[Any]) -> Any:
    if isinstance(results[0], CarpoolError):
        raise ModelError(f"an item failed alone: {results[0]}")
    return results[0]


def _mixed_batch(payloads: Sequence[Any], size: int) -> tuple[list[Any], list[int]]:
    """Spread the compared items over a batch, others between them; return it and their places."""
    probes, company = payloads[:NUM_ITEMS], payloads[NUM_ITEMS:] or payloads
    shown = probes[:size]
    places = [index * size // len(shown) for index in range(len(shown))]
    batch = [company[index % len(company)] for index in range(size)]
    for place, payload in zip(places, shown, strict=True):
        batch[place] = payload
    return batch, places


def _compare_size(
    run: Callable[[list[Any]], Sequence[Any]],
    batch: list[Any],
    alone: list[Any],
    places: list[int],
    tolerance: Tolerance,
) -> SizeQuality:
    """Run a batch and compare the items at some places with themselves alone."""
    try:
        results = run(batch)
        pairs = [(one, _one([results[place]])) for one, place in zip(alone, places, strict=True)]
    except CarpoolError as error:
        return SizeQuality(batch_size=len(batch), error=str(error))
    return _judge(len(batch), pairs, tolerance)


def _judge(size: int, pairs: Sequence[tuple[Any, Any]], tolerance: Tolerance) -> SizeQuality:
    numbers = [(_numbers(one), _numbers(other)) for one, other in pairs]
    if any(one is None or other is None for one, other in numbers):
        return SizeQuality(batch_size=size, depends=any(not _equal(one, other) for one, other in pairs))
    both = [(one, other) for one, other in numbers if one is not None and other is not None]
    if any(one.shape != other.shape for one, other in both):
        return SizeQuality(batch_size=size, depends=True, error="outputs differ in shape from those alone")
    if not all(np.isfinite(one).all() and np.isfinite(other).all() for one, other in both):
        return SizeQuality(batch_size=size, error="an output is infinite, so nothing can be compared")
    found = [_difference(one, other) for one, other in both]
    worst_abs, worst_relative = max(one[0] for one in found), max(one[1] for one in found)
    least_cosine = min(one[2] for one in found)
    return SizeQuality(
        batch_size=size,
        max_abs_diff=worst_abs,
        max_relative_diff=worst_relative,
        min_cosine=least_cosine,
        depends=not (worst_relative <= tolerance.relative and least_cosine >= tolerance.cosine),
    )


def _difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the largest difference, the same relative to the first's largest value, and the cosine."""
    if not one.size:
        return 0.0, 0.0, 1.0
    gap, scale = float(np.abs(one - other).max()), float(np.abs(one).max())
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    cosine = float(one @ other) / lengths if lengths > 0.0 else float(gap == 0.0)
    return gap, gap / scale if scale > 0.0 else gap, min(1.0, cosine)


def _numbers(output: Any) -> NDArray[np.float64] | None:
    """Return all numbers of an output in one row, or None where it holds something else."""
    try:
        arrays = _arrays(output)
        return np.concatenate([np.asarray(array, dtype=np.float64).ravel() for array in arrays])
    except (TypeError, ValueError):
        return None


def _arrays(output: Any) -> list[NDArray[Any]]:
    if isinstance(output, dict):
        return [array for value in output.values() for array in _arrays(value)]
    if isinstance(output, tuple):
        return [array for value in output for array in _arrays(value)]
    try:
        array = np.asarray(output)
    except ValueError:
        return []
    return [array] if array.dtype.kind in "biuf" else []


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except ValueError:
        return bool(np.array_equal(one, other))
