"""Computing a step's chunks: laid out for the runner, in pieces that fit the memory, answered sequence by sequence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from carpool.core.ceiling import Ceiling
from carpool.core.sequence import Sequence
from carpool.core.step import Chunk, StepPlan, StepWork
from carpool.errors import CarpoolError, ModelError, OutOfMemory
from carpool.llm.logprobs import prompt_logprobs
from carpool.llm.sampling import sample
from carpool.llm.step_batch import num_results, step_batch
from carpool.models.blame import first_line_of
from carpool.runtime.execute import is_out_of_memory

if TYPE_CHECKING:
    import collections.abc

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from carpool.llm.job import Job
    from carpool.llm.runner import Runner, StepBatch, Want
    from carpool.llm.sampled import Sampled

_UNKNOWN_WORK = StepWork(num_tokens=0, num_sequences=0, num_sampled=0, kv_read=0, prefill_pairs=0.0)


class Result(NamedTuple):
    """What was computed for one sequence.

    Args:
        outcome: the next token, or why there is none; None where its chunk does not sample.
        prompt: records of the prompt's tokens that the chunk's tokens are followed by.
        vector: (D,) the last layer's, in the place of a token.
    """

    outcome: Sampled | CarpoolError | None = None
    prompt: tuple[Sampled, ...] = ()
    vector: NDArray[np.float32] | None = None


class Piece(NamedTuple):
    """Chunks that are run at once, laid out."""

    chunks: list[Chunk]
    batch: StepBatch


@dataclass(slots=True)
class Attempt:
    """What came of running some chunks.

    Args:
        answered: what was computed; a token alone where there is nothing else to tell.
        error: what the runner raised; then the sequences that are not among the answered have not been computed.
    """

    answered: dict[Sequence, Result | int] = field(default_factory=dict)
    error: CarpoolError | None = None

    def take(self, chunks: list[Chunk], results: collections.abc.Sequence[Result | int]) -> None:
        """Take the results of a piece; a sequence of which an earlier one had a part keeps what came of that."""
        for chunk, result in zip(chunks, results, strict=True):
            before = self.answered.get(chunk[0])
            if isinstance(before, Result) and before.prompt and isinstance(result, Result):
                result = result._replace(prompt=before.prompt + result.prompt)  # noqa: PLW2901
            self.answered[chunk[0]] = result


class Executor:
    """Runs chunks.

    What memory holds is learned by running out of it: a step with more tokens than that runs in pieces.

    Args:
        runner: computes.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._ceiling = Ceiling()

    @property
    def most_tokens(self) -> float:
        """The most tokens that are run at once; infinite as long as memory never ran out."""
        return self._ceiling.tokens

    def prepare(self, chunks: collections.abc.Sequence[Chunk]) -> list[Piece]:
        """Lay out the chunks of those that have not ended; while nobody changes the sequences."""
        texts: list[Chunk] = []
        vectors: list[Chunk] = []
        for chunk in chunks:
            job: Job = chunk[0].handle
            if not job.has_ended:
                (vectors if job.wants_vector else texts).append(chunk)
        pieces = [_piece(piece, _want(piece)) for piece in self._pieces(texts)]
        return pieces + [_piece(piece, "hidden") for piece in self._pieces(vectors)]

    def _pieces(self, chunks: list[Chunk]) -> list[list[Chunk]]:
        most = self._ceiling.tokens
        if not chunks or sum(chunk.num_tokens for chunk in chunks) <= most:
            return [chunks] if chunks else []
        self._ceiling.held()
        return cut(chunks, int(most))

    def run(self, pieces: list[Piece]) -> Attempt:
        """Compute what was laid out, and choose the tokens; stop at the first piece that fails."""
        attempt = Attempt()
        for place, piece in enumerate(pieces):
            try:
                tensor = self._call(piece.batch)
            except CarpoolError as error:
                for later in pieces[place:]:
                    for chunk in later.chunks:
                        attempt.answered.pop(chunk.sequence, None)  # an earlier part of it is of no use alone
                attempt.error = error
                return attempt
            attempt.take(piece.chunks, _results(piece, tensor))
        return attempt

    def _call(self, batch: StepBatch) -> torch.Tensor:
        try:
            return self._runner.run(batch)
        except BaseException as error:
            if is_out_of_memory(error):
                if batch.num_tokens > 1:
                    self._ceiling.ran_out(batch.num_tokens)
                raise OutOfMemory(
                    f"a step of {batch.num_tokens} tokens ran out of memory ({first_line_of(error)}): lower "
                    "token_budget, or leave less memory to the cache"
                ) from error
            if isinstance(error, CarpoolError):
                raise
            raise ModelError(f"the model raised {type(error).__name__}: {first_line_of(error)}") from error


def cut(chunks: collections.abc.Sequence[Chunk], most_tokens: int) -> list[list[Chunk]]:
    """Cut chunks into pieces that are run one after another.

    Args:
        chunks: in the order in which they are to run.
        most_tokens: in a piece; at least one.
    """
    pieces: list[list[Chunk]] = [[]]
    room = most_tokens
    for chunk in chunks:
        start = chunk.start
        while start < chunk.end:
            if not room:
                pieces.append([])
                room = most_tokens
            num_tokens = min(room, chunk.end - start)
            is_last = start + num_tokens == chunk.end
            pieces[-1].append(Chunk(chunk.sequence, start, num_tokens, chunk.samples and is_last))
            start += num_tokens
            room -= num_tokens
    return pieces


def _job(chunk: Chunk) -> Job:
    job: Job = chunk.sequence.handle
    return job


def _piece(chunks: list[Chunk], want: Want) -> Piece:
    return Piece(chunks, step_batch(StepPlan(tuple(chunks), (), _UNKNOWN_WORK), want=want))


def _want(chunks: collections.abc.Sequence[Chunk]) -> Want:
    for sequence, _, _, samples in chunks:
        job: Job = sequence.handle
        if not job.is_plain and (samples or sequence.wants_prompt_logits):
            return "logits"
    return "tokens"


def _results(piece: Piece, tensor: torch.Tensor) -> collections.abc.Sequence[Result | int]:
    """Say what came of each chunk of a piece; a fault in choosing is the fault of all that take a token."""
    chunks, want = piece.chunks, piece.batch.want
    if want == "tokens":
        tokens: list[int] = tensor.tolist()
        one = iter(tokens)
        return tokens if len(tokens) == len(chunks) else [next(one) if chunk.samples else Result() for chunk in chunks]
    if want == "hidden":
        vectors = iter(tensor.float().cpu().numpy())
        return [Result(vector=next(vectors)) if chunk.samples else Result() for chunk in chunks]
    try:
        prompts = _prompt_records(chunks, tensor)
        outcomes = iter(_choose(chunks, tensor))
    except Exception as error:  # noqa: BLE001 - the runner did its part, so that running it again mends nothing
        failure = ModelError(f"choosing tokens raised {type(error).__name__}: {first_line_of(error)}")
        failure.__cause__ = error
        return [Result(failure) if chunk.samples else Result() for chunk in chunks]
    return [
        Result(next(outcomes) if chunk.samples else None, prompts.get(place, ())) for place, chunk in enumerate(chunks)
    ]


def _choose(
    chunks: collections.abc.Sequence[Chunk], logits: torch.Tensor
) -> collections.abc.Sequence[Sampled | CarpoolError]:
    states = [_job(chunk).sampler for chunk in chunks if chunk.samples]
    return sample(_sampled_rows(chunks, logits), states) if states else []


def _sampled_rows(chunks: collections.abc.Sequence[Chunk], logits: torch.Tensor) -> torch.Tensor:
    """Take the rows that a token is chosen by; all, where there are no others."""
    ends: list[int] = []
    row = 0
    for chunk in chunks:
        row += num_results(chunk)
        if chunk.samples:
            ends.append(row - 1)
    return logits if len(ends) == len(logits) else logits[ends]


def _prompt_records(chunks: collections.abc.Sequence[Chunk], logits: torch.Tensor) -> dict[int, tuple[Sampled, ...]]:
    """Say how likely the tokens of prompts were, for the chunks whose sequences want that and lack it."""
    records: dict[int, tuple[Sampled, ...]] = {}
    row = 0
    for place, chunk in enumerate(chunks):
        sequence, first = chunk.sequence, row
        row += num_results(chunk)
        if not sequence.wants_prompt_logits:
            continue
        known = len(_job(chunk).prompt_records)  # of tokens 1 to `known`; after a preemption there are some
        begin, end = max(chunk.start, known), min(chunk.end, sequence.num_prompt - 1)
        if begin < end:
            rows = logits[first + begin - chunk.start : first + end - chunk.start]
            num_top = _job(chunk).sampler.params.prompt_logprobs or 0
            records[place] = tuple(prompt_logprobs(rows, sequence.tokens[begin + 1 : end + 1], num_top))
    return records
