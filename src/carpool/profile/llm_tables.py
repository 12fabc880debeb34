"""The profile of a model that generates as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.tables import machine_table
from carpool.report.table import Cell, Column, Table
from carpool.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.profile.llm_artefact import LlmProfile, StepPoint

MS, US = 1e3, 1e6


def tables(profile: LlmProfile) -> Iterator[Table]:
    """Every table that the profile has figures for, the most important first."""
    yield from decode_tables(profile)
    if profile.prefills:
        yield prefill_table(profile)
    if profile.mixed:
        yield mixed_table(profile)


def more_tables(profile: LlmProfile) -> Iterator[Table]:
    """The tables that a page folds away."""
    if profile.step_cost is not None:
        yield cost_table(profile)
    yield memory_table(profile)
    yield machine_table(profile)


def _interval(point: StepPoint) -> str:
    return f"{point.low_s * MS:.3g} to {point.high_s * MS:.3g}"


def _off(point: StepPoint) -> float | None:
    return None if point.fitted_s is None else 100.0 * (point.fitted_s / point.time_s - 1.0)


_STEP = Column("step", "ms")
_INTERVAL = Column("~95 % interval", "ms", align="right")
_RATE = Column("tokens/s", spec=",.0f")
_EACH = Column("each", "tokens/s")
_OFF = Column("fit off by", "%", spec="+.0f")


def decode_tables(profile: LlmProfile) -> Iterator[Table]:
    """One table for each context: sequences that get a token each."""
    knees = {}
    if profile.step_cost is not None and profile.trust.trusted:
        knees = {context: profile.step_cost.knee(context) for context in {point.context for point in profile.decodes}}
    for context in sorted({point.context for point in profile.decodes}):
        points = [point for point in profile.decodes if point.context == context]
        sizes = [point.batch_size for point in points]
        single = next((point for point in points if point.batch_size == 1), None)
        yield Table(
            f"{profile.name}, a token for each sequence, {context} tokens in the cache of each",
            (
                Column("sequences"),
                _STEP,
                _INTERVAL,
                _RATE,
                Column("each", "tokens/s"),
                Column("gain", spec=".2f"),
                _OFF,
            ),
            tuple(
                (
                    point.batch_size,
                    point.time_s * MS,
                    _interval(point),
                    point.tokens_per_s,
                    1.0 / point.time_s,
                    None if single is None else point.tokens_per_s / single.tokens_per_s,
                    _off(point),
                )
                for point in points
            ),
            highlight=sizes.index(knees[context]) if knees.get(context) in sizes else None,
            highlight_label="knee",
        )


def prefill_table(profile: LlmProfile) -> Table:
    """Pieces of prompts alone."""
    return Table(
        f"{profile.name}, a piece of a prompt",
        (Column("after", "tokens"), Column("piece", "tokens"), _STEP, _INTERVAL, _RATE, _OFF),
        tuple(
            (point.start, point.chunk, point.time_s * MS, _interval(point), point.tokens_per_s, _off(point))
            for point in profile.prefills
        ),
    )


def mixed_table(profile: LlmProfile) -> Table:
    """A piece of a prompt beside others' tokens."""
    alone_s = {(point.batch_size, point.context): point.time_s for point in profile.decodes}
    return Table(
        f"{profile.name}, a piece of a prompt beside others' tokens",
        (
            Column("sequences"),
            Column("in the cache", "tokens"),
            Column("piece", "tokens"),
            _STEP,
            _INTERVAL,
            Column("without it", "ms"),
            Column("delay", "ms"),
            _OFF,
        ),
        tuple(_mixed_row(point, alone_s.get((point.batch_size, point.context))) for point in profile.mixed),
        notes=("Delay: how much later the others' tokens come for the piece.",),
    )


def _mixed_row(point: StepPoint, alone_s: float | None) -> tuple[Cell, ...]:
    return (
        point.batch_size,
        point.context,
        point.chunk,
        point.time_s * MS,
        _interval(point),
        None if alone_s is None else alone_s * MS,
        None if alone_s is None else (point.time_s - alone_s) * MS,
        _off(point),
    )


def cost_table(profile: LlmProfile) -> Table:
    """The terms of the fit."""
    cost = profile.step_cost
    assert cost is not None, "there is no such table without a fit"
    rows: Sequence[tuple[Cell, ...]] = (
        ("every step", cost.step_s * US, "its weights, and what is launched whatever is in it"),
        ("each token", cost.token_s * US, "its share of the matrix products"),
        ("each sequence", cost.sequence_s * US, "its logits, and its own part of the attention"),
        ("each 1,000 tokens of the cache read", 1000 * cost.kv_s * US, "by tokens on their own"),
        ("each 1,000 pairs within and before a piece", 1000 * cost.pair_s * US, "by pieces of prompts"),
    )
    most = cost.most
    within = (
        f"{most.num_tokens:,} tokens, {most.num_sequences:,} sequences, {most.kv_read:,} tokens of the cache and "
        f"{most.prefill_pairs:,.0f} pairs"
    )
    return Table(
        "What a step costs, by the fit",
        (Column("for"), Column("time", "us", spec=",.2f"), Column("what it is")),
        tuple(rows),
        notes=(
            f"Holds for up to {within} in a step.",
            f"Off by {cost.error_pct:.1f} % at the median and {cost.worst_error_pct:.1f} % at worst on steps not seen.",
        ),
    )


def memory_table(profile: LlmProfile) -> Table:
    """What the cache holds, by its size."""
    memory = profile.memory
    contexts = sorted({point.context for point in profile.decodes}) or [profile.max_length]
    served = memory.memory_bytes(profile.num_blocks)
    sizes = sorted({memory.memory_bytes(max(1, int(profile.num_blocks * share))) for share in (0.25, 0.5)} | {served})
    return Table(
        "Sequences that memory holds beside the weights",
        (
            Column("memory", align="right"),
            Column("tokens"),
            *(Column(f"sequences of {context}") for context in contexts),
        ),
        tuple(
            (format_bytes(size), tokens, *(tokens // context for context in contexts))
            for size in sizes
            for tokens in [memory.tokens_within(size)]
        ),
        notes=(
            (
                f"Weights take {format_bytes(memory.weights_bytes)}, keys and values of a token "
                f"{format_bytes(memory.token_bytes)}, those of a block of {memory.block_size} "
                f"{format_bytes(memory.block_bytes)}."
            ),
        ),
        highlight=sizes.index(served),
        highlight_label="as a server here",
    )
