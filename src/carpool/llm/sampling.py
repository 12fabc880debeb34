"""Choose the next token of each sequence of a step from the model's logits.

What is done to the logits of a row, in this order: bias, repetition, frequency and presence penalty, tokens that may
not come yet, the constraint; then the most likely token, or temperature, top-k, top-p, min-p and one that is drawn.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from carpool.errors import CarpoolError, ModelError
from carpool.llm.constrain import constrain
from carpool.llm.draw import Draw, draw
from carpool.llm.logprobs import records
from carpool.llm.penalties import Penalty, TokenCounts, add_bias, forbid, penalise
from carpool.llm.random_stream import RandomStream
from carpool.llm.sampled import Sampled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from carpool.llm.constrain import Matcher
    from carpool.llm.sampling_params import SamplingParams

Outcome: TypeAlias = Sampled | CarpoolError
"""A token, or why there is none for this row: its logits are no numbers, or its constraint became too complex."""


class SamplerState:
    """What choosing the tokens of one sequence goes by; it outlives preemptions.

    Args:
        params: what its request asks for.
        prompt: its prompt's tokens.
        eos_ids: tokens that the model ends its texts with.
        matcher: follows its constraint, where it has one.
        index: which of the generations for its prompt it is: each draws other numbers.
        seed: taken where the request names none; all generations of a request share it. None: one is drawn.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt: Iterable[int] = (),
        *,
        eos_ids: frozenset[int] = frozenset(),
        matcher: Matcher | None = None,
        index: int = 0,
        seed: int | None = None,
    ) -> None:
        self.params = params
        self.matcher = matcher
        self.num_generated = 0
        self.said = TokenCounts(prompt if params.repetition_penalty != 1 else ()) if params.penalises else None
        self.stopping_ids = params.stopping_ids(eos_ids)
        chosen = params.seed if params.seed is not None else seed
        self._stream = RandomStream(secrets.randbits(64) if chosen is None else chosen, index)
        self.bias = _bias(params.logit_bias)
        self._early = np.array(sorted(self.stopping_ids), dtype=np.int64)
        self._num_guarded = params.min_tokens if self.stopping_ids else 0  # tokens that must not end the text
        nothing_else = matcher is None and self.said is None and self.bias is None
        self._is_plain = params.greedy and params.logprobs is None and nothing_else

    @property
    def is_complete(self) -> bool:
        """Whether the constraint lets nothing more come: the sequence is at its end, without a token that says so."""
        return self.matcher is not None and self.matcher.is_complete

    @property
    def only_argmax(self) -> bool:
        """Whether the next token is the most likely one, and nothing else is asked."""
        return self._is_plain and self.num_generated >= self._num_guarded

    @property
    def forbidden(self) -> NDArray[np.int64] | None:
        """Tokens that may not come yet, since the text is too short."""
        return self._early if self.num_generated < self._num_guarded else None

    def uniform(self) -> float:
        """The random number for the next token."""
        return self._stream.uniform(self.num_generated)

    def advance(self, token: int) -> CarpoolError | None:
        """Take note of the token that was chosen; say what is wrong with it, if the constraint can't go on."""
        self.num_generated += 1
        if self.said is not None:
            self.said.add(token)
        return self.matcher.accept(token) if self.matcher is not None else None


def _bias(logit_bias: Mapping[int, float]) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    if not logit_bias:
        return None
    return np.array(list(logit_bias), dtype=np.int64), np.array(list(logit_bias.values()), dtype=np.float64)


def sample(logits: torch.Tensor, states: Sequence[SamplerState]) -> list[Outcome]:
    """Choose the next token of each sequence.

    Args:
        logits: (R, V) float32 or float64; may be changed in place.
        states: of the R sequences; each takes note of its token.

    Returns:
        For each row a token with what is told of it, or what is wrong with this row alone.
    """
    import torch

    with torch.inference_mode():
        logits = logits.contiguous()
        told = _Told(logits, states)
        troubles = _adjust(logits, states)
        tokens = _choose(logits, states, troubles)
        chosen = told.records(tokens)
    return [troubles[row] if row in troubles else _advanced(state, chosen[row]) for row, state in enumerate(states)]


class _Told:
    """What is told of chosen tokens: of the logits as they were."""

    def __init__(self, logits: torch.Tensor, states: Sequence[SamplerState]) -> None:
        wanted = [(row, state.params.logprobs) for row, state in enumerate(states)]
        self._num_tops = {row: num_top for row, num_top in wanted if num_top is not None}
        self._logprobs: torch.Tensor | None = None
        if self._num_tops:
            rows = logits if len(self._num_tops) == len(states) else logits[list(self._num_tops)]
            self._logprobs = rows.log_softmax(-1)

    def records(self, tokens: dict[int, int]) -> dict[int, Sampled]:
        """Give the record of each token, by its row."""
        told = {row: Sampled(token) for row, token in tokens.items()}
        if self._logprobs is not None:
            asked = [tokens.get(row, 0) for row in self._num_tops]
            found = records(self._logprobs, asked, list(self._num_tops.values()))
            told |= {row: record for row, record in zip(self._num_tops, found, strict=True) if row in tokens}
        return told


def _advanced(state: SamplerState, record: Sampled) -> Outcome:
    return state.advance(record.token) or record


def _adjust(logits: torch.Tensor, states: Sequence[SamplerState]) -> dict[int, CarpoolError]:
    """Change the logits as the requests ask; say which rows can't go on, and why."""
    rows = list(enumerate(states))
    add_bias(logits, [(row, *state.bias) for row, state in rows if state.bias is not None])
    penalise(logits, [Penalty(row, state.said, state.params) for row, state in rows if state.said is not None])
    forbid(logits, [(row, state.forbidden) for row, state in rows if state.forbidden is not None])
    return constrain(logits, {row: state.matcher for row, state in rows if state.matcher is not None})


def _choose(logits: torch.Tensor, states: Sequence[SamplerState], troubles: dict[int, CarpoolError]) -> dict[int, int]:
    """Choose a token for each row without trouble; rows whose logits are no numbers are added to the troubles."""
    usable = [(row, state) for row, state in enumerate(states) if row not in troubles]
    tokens = _most_likely(logits, [row for row, state in usable if state.params.greedy])
    tokens |= draw(
        logits, [Draw(row, state.params, state.uniform()) for row, state in usable if not state.params.greedy]
    )
    troubles.update((row, _no_numbers(float(logits[row].max()))) for row, _ in usable if row not in tokens)
    return tokens


def _no_numbers(peak: float) -> ModelError:
    if peak == -math.inf:
        return ModelError("no token is possible next: all logits are -inf; look at the model's weights and its dtype")
    return ModelError(f"the largest logit is {peak}: the model's arithmetic overflowed; try a wider dtype")


def _most_likely(logits: torch.Tensor, rows: list[int]) -> dict[int, int]:
    """Give the most likely token of rows; none for a row whose logits are no numbers."""
    if not rows:
        return {}
    if logits.device.type == "cpu":
        array = logits.numpy()  # its argmax is ten times as fast on a CPU
        tokens = [int(array[row].argmax()) for row in rows]
        peaks = [array[row, token] for row, token in zip(rows, tokens, strict=True)]
    else:
        found, places = logits[rows].max(-1)
        tokens, peaks = places.tolist(), found.tolist()
    return {row: token for row, token, peak in zip(rows, tokens, peaks, strict=True) if math.isfinite(peak)}
