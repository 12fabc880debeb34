"""Time over batch size and length: one curve, rows of curves, or one formula for encoders, by which predicts best."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np

from carpool.cost.curve import CURVE_FORMS, Curve, CurveForm, Split, held_out_errors
from carpool.cost.least_squares import nonnegative
from carpool.cost.points import weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carpool.cost.points import Measurement

    Floats = NDArray[np.float64]

SurfaceKind = Literal["curve", "rows", "encoder"]
ENCODER_TERMS = ("a", "p", "c0", "c1", "c2")
# Predictions within a tenth, or a tenth of a per cent, of the best are called equal; the simpler form is then taken.
TIE_RATIO, TIE_MARGIN = 1.1, 0.001
SIMPLEST = CURVE_FORMS[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface:
    """Seconds of a batch as a function of its size and its padded length.

    Args:
        kind: `curve`: one length, one curve. `rows`: a curve for each length, straight lines between lengths.
            `encoder`: `a + p sqrt(b len) + b (c0 + c1 len + c2 len^2)`, no term negative: the call, the lower
            efficiency of small products, then what is proportional to items, to tokens and to attention.
        lengths: Lengths of the rows, ascending.
        curves: One curve for each of those lengths; none for `encoder`.
        terms: The coefficients of `encoder` by name, in seconds.
    """

    kind: SurfaceKind
    lengths: tuple[int, ...] = field(default=())
    curves: tuple[Curve, ...] = field(default=())
    terms: dict[str, float] = field(default_factory=dict)

    def time_s(self, batch_size: float, length: float) -> float:
        """Return the predicted seconds of a batch, unchecked; beyond the outermost row, that row holds."""
        if self.kind == "encoder":
            terms = self.terms
            per_item = terms["c0"] + length * (terms["c1"] + length * terms["c2"])
            return terms["a"] + terms["p"] * sqrt(batch_size * length) + batch_size * per_item
        below, above, share = self._neighbours(length)
        time_s = below.time_s(batch_size)
        return time_s if share == 0.0 else time_s + share * (above.time_s(batch_size) - time_s)

    def split(self, length: float) -> Split:
        """Take the time at one length apart into what a batch shares and what each item adds."""
        if self.kind == "encoder":
            terms = self.terms
            per_item = terms["c0"] + length * (terms["c1"] + length * terms["c2"])
            return Split(overhead_s=terms["a"], per_item_s=per_item, root_s=terms["p"] * sqrt(length))
        below, above, share = self._neighbours(length)
        one, other = below.split(), above.split()
        return Split(
            overhead_s=one.overhead_s + share * (other.overhead_s - one.overhead_s),
            per_item_s=one.per_item_s + share * (other.per_item_s - one.per_item_s),
            floor_s=one.floor_s + share * (other.floor_s - one.floor_s),
        )

    def _neighbours(self, length: float) -> tuple[Curve, Curve, float]:
        """Return the rows below and above a length, and how far between them it lies, from 0 to 1."""
        lengths, curves = self.lengths, self.curves
        right = bisect_left(lengths, length)
        if right == len(lengths):
            return curves[-1], curves[-1], 0.0
        if right == 0 or lengths[right] == length:
            return curves[right], curves[right], 0.0
        share = (length - lengths[right - 1]) / (lengths[right] - lengths[right - 1])
        return curves[right - 1], curves[right], share


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A fitted surface beside the errors it made on points that it had not seen (log ratios [n]), and their shapes."""

    name: str
    surface: Surface
    held_out: Floats
    held_out_shapes: tuple[tuple[int, int], ...]
    num_params: int

    @property
    def worst(self) -> tuple[int, int]:
        """Batch size and length at which the error was largest; a prediction twice too high is worse than half."""
        return self.held_out_shapes[int(np.argmax(np.abs(np.expm1(self.held_out))))]

    @property
    def score(self) -> float:
        """The mean size of those errors; what candidates are compared by."""
        return float(np.mean(np.abs(self.held_out)))


def candidates(points: Sequence[Measurement]) -> list[Candidate]:
    """Fit every form that this many points allow, the simplest first.

    Args:
        points: Measurements, one for each shape, ascending by length and batch size.
    """
    rows = _rows(points)
    most = max(len(row.batch_sizes) for row in rows)
    usable = [form for form in CURVE_FORMS if most >= form.fewest_points]
    if len(rows) == 1:
        return [_curve_candidate(form, rows[0]) for form in usable]
    return [*_encoder_candidates(points), *(_rows_candidate(form, rows) for form in usable)]


def choose(fitted: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the smallest held-out error, or a simpler one that is as good."""
    best = min(candidate.score for candidate in fitted)
    return next(candidate for candidate in fitted if candidate.score <= TIE_RATIO * best + TIE_MARGIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """The measurements of one length as arrays [n], ascending by batch size."""

    length: int
    batch_sizes: Floats
    times_s: Floats
    weights: Floats

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Batch size and length of each measurement."""
        return tuple((int(batch_size), self.length) for batch_size in self.batch_sizes)


def _rows(points: Sequence[Measurement]) -> list[_Row]:
    trust = weights(points)
    lengths = np.array([point.length for point in points])
    batch_sizes = np.array([float(point.batch_size) for point in points])
    times_s = np.array([point.time_s for point in points])
    return [
        _Row(length=length, batch_sizes=batch_sizes[here], times_s=times_s[here], weights=trust[here])
        for length in sorted(set(lengths.tolist()))
        for here in [lengths == length]
    ]


def _curve_candidate(form: CurveForm, row: _Row) -> Candidate:
    curve = form.fit(row.batch_sizes, row.times_s, row.weights)
    return Candidate(
        name=form.kind,
        surface=Surface(kind="curve", lengths=(row.length,), curves=(curve,)),
        held_out=held_out_errors(form, row.batch_sizes, row.times_s, row.weights),
        held_out_shapes=row.shapes,
        num_params=form.num_params,
    )


def _rows_candidate(form: CurveForm, rows: Sequence[_Row]) -> Candidate:
    """Fit a curve to each row; hold out each point of a row, and each row between two others as a whole.

    A row too short for the form gets a straight line; one of a single point has none to hold out.
    """
    forms = [form if len(row.batch_sizes) >= form.fewest_points else SIMPLEST for row in rows]
    curves = tuple(own.fit(row.batch_sizes, row.times_s, row.weights) for own, row in zip(forms, rows, strict=True))
    lengths = tuple(row.length for row in rows)
    errors = [
        held_out_errors(own, row.batch_sizes, row.times_s, row.weights)
        for own, row in zip(forms, rows, strict=True)
        if len(row.batch_sizes) > 1
    ]
    for index in range(1, len(rows) - 1):
        around = Surface(
            kind="rows",
            lengths=lengths[:index] + lengths[index + 1 :],
            curves=curves[:index] + curves[index + 1 :],
        )
        errors.append(_row_errors(around, rows[index]))
    return Candidate(
        name=f"rows of {form.kind}",
        surface=Surface(kind="rows", lengths=lengths, curves=curves),
        held_out=np.concatenate(errors),
        held_out_shapes=tuple(
            shape for row in (*(row for row in rows if len(row.batch_sizes) > 1), *rows[1:-1]) for shape in row.shapes
        ),
        num_params=form.num_params * len(rows),
    )


def _row_errors(surface: Surface, row: _Row) -> Floats:
    predicted = [surface.time_s(batch_size, row.length) for batch_size in row.batch_sizes.tolist()]
    return np.asarray(np.log(np.array(predicted) / row.times_s))


def _encoder_candidates(points: Sequence[Measurement]) -> list[Candidate]:
    """Fit the encoder formula where there are more points than it has terms."""
    if len(points) <= len(ENCODER_TERMS):
        return []
    lengths = np.array([float(point.length) for point in points])
    batch_sizes = np.array([float(point.batch_size) for point in points])
    times_s = np.array([point.time_s for point in points])
    roots = np.sqrt(weights(points))
    tokens = batch_sizes * lengths
    design = np.stack([np.ones_like(tokens), np.sqrt(tokens), batch_sizes, tokens, tokens * lengths], axis=1)
    distinct = np.unique(lengths)
    left_out = [np.arange(len(points)) == index for index in range(len(points))]
    left_out += [lengths == length for length in distinct[1:-1]]
    terms = _fit_encoder(design, times_s, roots)
    errors = [
        np.log(design[out] @ _fit_encoder(design[~out], times_s[~out], roots[~out]) / times_s[out]) for out in left_out
    ]
    surface = Surface(kind="encoder", terms=dict(zip(ENCODER_TERMS, terms.tolist(), strict=True)))
    shapes = tuple(
        (points[at].batch_size, points[at].length) for out in left_out for at in np.flatnonzero(out).tolist()
    )
    return [
        Candidate(
            name="encoder",
            surface=surface,
            held_out=np.concatenate(errors),
            held_out_shapes=shapes,
            num_params=len(ENCODER_TERMS),
        )
    ]


def _fit_encoder(design: Floats, times_s: Floats, roots: Floats) -> Floats:
    return nonnegative(design * roots[:, None], times_s * roots)
