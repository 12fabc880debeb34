"""The profile of a model that generates as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carpool.profile.tables import INTERVAL, MS, interval_ms, machine_table
from carpool.report.table import Cell, Column, Table, table_of
from carpool.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carpool.profile.llm_artefact import LlmProfile, StepPoint
    from carpool.report.table import ColumnOf

US = 1e6


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


def _off(point: StepPoint) -> float | None:
    return None if point.fitted_s is None else 100.0 * (point.fitted_s / point.time_s - 1.0)


_SEQUENCES: ColumnOf[StepPoint] = (Column("sequences"), lambda point: point.batch_size)
_PIECE: ColumnOf[StepPoint] = (Column("piece", "tokens"), lambda point: point.chunk)
_TIME: tuple[ColumnOf[StepPoint], ...] = (
    (Column("step", "ms"), lambda point: point.time_s * MS),
    (INTERVAL, interval_ms),
)
_RATE: ColumnOf[StepPoint] = (Column("tokens/s", spec=",.0f"), lambda point: point.tokens_per_s)
_OFF: ColumnOf[StepPoint] = (Column("fit off by", "%", spec="+.0f"), _off)


def decode_tables(profile: LlmProfile) -> Iterator[Table]:
    """One table for each context: sequences that get a token each."""
    for context in sorted({point.context for point in profile.decodes}):
        yield _decode_table(profile, context, [point for point in profile.decodes if point.context == context])


def _decode_table(profile: LlmProfile, context: int, points: Sequence[StepPoint]) -> Table:
    cost, single = profile.step_cost, next((point for point in points if point.batch_size == 1), None)
    knee = cost.knee(context) if cost is not None and profile.trust.trusted else None
    return table_of(
        f"{profile.name}, a token for each sequence, {context} tokens in the cache of each",
        points,
        (
            _SEQUENCES,
            *_TIME,
            _RATE,
            (Column("each", "tokens/s"), lambda point: 1.0 / point.time_s),
            (
                Column("gain", spec=".2f"),
                lambda point: None if single is None else point.tokens_per_s / single.tokens_per_s,
            ),
            _OFF,
        ),
        highlight=lambda point: point.batch_size == knee,
        highlight_label="knee",
    )


def prefill_table(profile: LlmProfile) -> Table:
    """Pieces of prompts alone."""
    after: ColumnOf[StepPoint] = (Column("after", "tokens"), lambda point: point.start)
    return table_of(f"{profile.name}, a piece of a prompt", profile.prefills, (after, _PIECE, *_TIME, _RATE, _OFF))


def mixed_table(profile: LlmProfile) -> Table:
    """A piece of a prompt beside others' tokens."""
    known = {(point.batch_size, point.context): point.time_s * MS for point in profile.decodes}

    def alone_ms(point: StepPoint) -> float | None:
        return known.get((point.batch_size, point.context))

    def delay_ms(point: StepPoint) -> float | None:
        without_ms = alone_ms(point)
        return None if without_ms is None else point.time_s * MS - without_ms

    return table_of(
        f"{profile.name}, a piece of a prompt beside others' tokens",
        profile.mixed,
        (
            _SEQUENCES,
            (Column("in the cache", "tokens"), lambda point: point.context),
            _PIECE,
            *_TIME,
            (Column("without it", "ms"), alone_ms),
            (Column("delay", "ms"), delay_ms),
            _OFF,
        ),
        notes=("Delay: how much later the others' tokens come for the piece.",),
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
