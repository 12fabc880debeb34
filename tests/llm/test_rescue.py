"""After a step that raised: the guilty sequence is found, and the others are spared."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.core.sequence import Sequence
from carpool.core.step import Chunk
from carpool.errors import ModelError, OutOfMemory
from carpool.llm.execute import Attempt, cut
from carpool.llm.rescue import Rescue

if TYPE_CHECKING:
    import collections.abc

BROKEN = ModelError("it is broken")


def _chunks(lengths: list[int]) -> list[Chunk]:
    """Chunks of so many tokens, each of a sequence of its own."""
    return [Chunk(Sequence(tokens=[0] * length, max_new_tokens=1), 0, length, samples=True) for length in lengths]


class Model:
    """Fails on some chunks; notes what it was asked.

    Args:
        guilty: those that it fails on.
    """

    def __init__(self, guilty: collections.abc.Sequence[Chunk]) -> None:
        self.guilty = list(guilty)
        self.asked: list[int] = []

    def __call__(self, chunks: collections.abc.Sequence[Chunk]) -> Attempt:
        """Compute, or fail."""
        self.asked.append(len(chunks))
        if any(chunk in self.guilty for chunk in chunks):
            return Attempt(error=BROKEN)
        return Attempt(answered={chunk.sequence: 5 for chunk in chunks})


@given(num_chunks=st.integers(1, 200), data=st.data())
def test_one_guilty_sequence_is_found_and_the_others_are_answered(num_chunks: int, data: st.DataObject) -> None:
    """Wherever it stands, in about two runs a halving."""
    chunks = _chunks([1] * num_chunks)
    guilty = chunks[data.draw(st.integers(0, num_chunks - 1))]
    model = Model([guilty])
    rescue = Rescue(model, lambda: math.inf)
    rescue.save(chunks, BROKEN)
    assert rescue.faults == {guilty.sequence: BROKEN}
    assert rescue.answered == {chunk.sequence: 5 for chunk in chunks if chunk is not guilty}
    assert len(model.asked) <= 2 * math.ceil(math.log2(num_chunks)) + 1


@given(num_chunks=st.integers(1, 40), data=st.data())
def test_every_sequence_is_answered_or_guilty(num_chunks: int, data: st.DataObject) -> None:
    """However many the model fails on; never both."""
    chunks = _chunks([1] * num_chunks)
    flags = data.draw(st.lists(st.booleans(), min_size=num_chunks, max_size=num_chunks))
    rescue = Rescue(Model([chunk for chunk, flag in zip(chunks, flags, strict=True) if flag]), lambda: math.inf)
    rescue.save(chunks, BROKEN)
    assert rescue.answered.keys() | rescue.faults.keys() == {chunk.sequence for chunk in chunks}
    assert not rescue.answered.keys() & rescue.faults.keys()


def test_model_that_fails_on_everything_is_not_asked_for_each() -> None:
    """A few failures in a row, one probe from the far end, and it is enough."""
    chunks = _chunks([1] * 1000)
    model = Model(chunks)
    rescue = Rescue(model, lambda: math.inf)
    rescue.save(chunks, BROKEN)
    assert len(rescue.faults) == 1000
    assert len(model.asked) < 20


@pytest.mark.parametrize("fits", [1, 3, 7])
def test_out_of_memory_is_tried_again_in_smaller_pieces(fits: int) -> None:
    """It is nobody's fault."""
    chunks, most = _chunks([4, 1, 1, 9]), [16.0]

    def run(part: collections.abc.Sequence[Chunk]) -> Attempt:
        if most[0] > fits:
            most[0] = max(1.0, most[0] // 2)
            return Attempt(error=OutOfMemory("too much"))
        return Attempt(answered={chunk.sequence: 5 for chunk in part})

    rescue = Rescue(run, lambda: most[0])
    rescue.save(chunks, OutOfMemory("too much"))
    assert not rescue.faults
    assert len(rescue.answered) == 4


def test_single_token_that_does_not_fit_is_its_sequences_fault() -> None:
    """There is nothing smaller to try."""
    chunks = _chunks([1, 1])
    error = OutOfMemory("too much")
    rescue = Rescue(lambda part: Attempt(error=error), lambda: 1.0)
    rescue.save(chunks, error)
    assert len(rescue.faults) == 2


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=12), most_tokens=st.integers(1, 20))
def test_pieces_hold_every_token_once_and_in_order(lengths: list[int], most_tokens: int) -> None:
    """None is larger than allowed, and only the last piece of a sequence gives a token."""
    chunks = _chunks(lengths)
    pieces = cut(chunks, most_tokens)
    assert all(sum(chunk.num_tokens for chunk in piece) <= most_tokens for piece in pieces)
    assert all(sum(chunk.num_tokens for chunk in piece) == most_tokens for piece in pieces[:-1])
    for whole in chunks:
        parts = [chunk for piece in pieces for chunk in piece if chunk.sequence is whole.sequence]
        assert [part.start for part in parts] == [
            sum(p.num_tokens for p in parts[:place]) for place in range(len(parts))
        ]
        assert sum(part.num_tokens for part in parts) == whole.num_tokens
        assert [part.samples for part in parts] == [False] * (len(parts) - 1) + [True]
