"""How the tokens of a generation are chosen, as its request says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from carpool.errors import InvalidItem
from carpool.llm.constraint import Constraint

MAX_LOGPROBS = 20
"""The most likely tokens that are told beside the chosen one."""
MAX_CHOICES = 128
"""The most generations for one prompt."""
MAX_STOPS = 64
"""The most stop strings, and the most stop tokens."""
MAX_STOP_CHARACTERS = 1_000
GREEDY_BELOW = 1e-5
"""Temperatures below this are greedy: the next token would be the most likely one anyhow."""
_SEED_FROM, _SEED_TO = -(2**63), 2**64 - 1
_MAX_BIAS, _MAX_PENALTY = 100.0, 2.0
_MIN_REPETITION, _MAX_REPETITION = 0.01, 100.0  # beyond these logits overflow
_COUNTS = {"min_tokens": (0, None), "n": (1, MAX_CHOICES), "top_k": (-1, None)}
_OPTIONAL_COUNTS = {
    "max_tokens": (1, None),
    "logprobs": (0, MAX_LOGPROBS),
    "prompt_logprobs": (0, MAX_LOGPROBS),
    "seed": (_SEED_FROM, _SEED_TO),
}
_NUMBERS = {
    "temperature": (0.0, 100.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-_MAX_PENALTY, _MAX_PENALTY),
    "frequency_penalty": (-_MAX_PENALTY, _MAX_PENALTY),
    "repetition_penalty": (_MIN_REPETITION, _MAX_REPETITION),
}
_POSITIVE_NUMBERS = {"top_p": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the tokens of a generation are chosen, when it ends, and what is told of them.

    Args:
        max_tokens: the most tokens to generate; None: as many as the model's length leaves.
        min_tokens: until so many are generated, nothing that would end the text is chosen.
        temperature: logits are divided by it; 0 takes the most likely token.
        top_p: only the most likely tokens that together have this probability; 1: all.
        top_k: only so many of the most likely tokens, and those level with the last of them; 0 or -1: all.
        min_p: only tokens at least this times as likely as the most likely one.
        presence_penalty: taken off the logits of tokens that were generated before.
        frequency_penalty: taken off the logits of tokens for each time that they were generated before.
        repetition_penalty: divides the logits of tokens in the prompt or generated before, or multiplies negative ones.
        logit_bias: added to the logits of these tokens.
        seed: with it the same prompt gives the same tokens again, whatever else is in the batch.
        logprobs: tell the chosen token's log probability, and those of so many of the most likely tokens.
        prompt_logprobs: the same of the prompt's tokens.
        stop: texts that end the generation.
        stop_token_ids: tokens that end it.
        ignore_eos: the model's own end of text does not end it.
        n: generations for the prompt, each with random numbers of its own.
        include_stop: leave the stop string in the text.
        constraint: the form that the text must have.

    Raises:
        InvalidItem: a value is out of its range, or of the wrong type.

    >>> SamplingParams(temperature=0).greedy
    True
    """

    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    n: int = 1
    include_stop: bool = False
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        _check_bias(self.logit_bias)
        _check_stops(self.stop, self.stop_token_ids)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidItem(
                f"min_tokens is {self.min_tokens}, and max_tokens {self.max_tokens}: ask for no more than are allowed"
            )
        if not isinstance(self.constraint, Constraint | None):
            raise InvalidItem(
                f"constraint is {self.constraint!r:.60}: make one, such as Constraint.regex(...) or "
                "Constraint.json_schema(...)"
            )
        if self.constraint is not None and self.min_tokens:
            raise InvalidItem(
                f"min_tokens is {self.min_tokens} beside a constraint, which alone says where the text may end: leave "
                "min_tokens out, and let the constraint ask for the length"
            )

    def _check_numbers(self) -> None:
        for name, (least, most) in _COUNTS.items():
            _check_whole(name, getattr(self, name), least, most)
        for name, (least, most) in _OPTIONAL_COUNTS.items():
            if getattr(self, name) is not None:
                _check_whole(name, getattr(self, name), least, most)
        for name, (low, high) in _NUMBERS.items():
            _check_number(name, getattr(self, name), low, high)
        for name, high in _POSITIVE_NUMBERS.items():
            _check_positive(name, getattr(self, name), high)

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken each time."""
        return self.temperature < GREEDY_BELOW

    @property
    def penalises(self) -> bool:
        """Whether what was said before changes what is likely next."""
        return bool(self.presence_penalty or self.frequency_penalty) or self.repetition_penalty != 1

    @property
    def truncates(self) -> bool:
        """Whether unlikely tokens are ruled out before one is drawn."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0

    def stopping_ids(self, eos_ids: frozenset[int]) -> frozenset[int]:
        """Give the tokens that end the generation.

        Args:
            eos_ids: those that the model ends its texts with.
        """
        stops = frozenset(self.stop_token_ids)
        return stops if self.ignore_eos else stops | eos_ids

    def check_vocabulary(self, vocabulary_size: int) -> None:
        """Refuse tokens that the model does not have.

        Raises:
            InvalidItem: `logit_bias` or `stop_token_ids` names one.
        """
        for name, ids in (("logit_bias", self.logit_bias), ("stop_token_ids", self.stop_token_ids)):
            for token in ids:
                if not 0 <= token < vocabulary_size:
                    raise InvalidItem(
                        f"{name} names the token {token}, and the model has those from 0 to {vocabulary_size - 1}: "
                        "use the ids of this model's tokenizer"
                    )


def _check_whole(name: str, value: object, least: int, most: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidItem(f"{name} is {value!r}: it must be a whole number")
    if value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"from {least} to {most}"
        raise InvalidItem(f"{name} is {value}: it must be {allowed}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if not low <= _finite(name, value) <= high:
        raise InvalidItem(f"{name} is {value}: it must be from {low:g} to {high:g}")


def _check_positive(name: str, value: object, high: float) -> None:
    if not 0 < _finite(name, value) <= high:
        remedy = "; for the most likely token alone set temperature to 0" if value == 0 and name == "top_p" else ""
        raise InvalidItem(f"{name} is {value}: it must be above 0 and at most {high:g}{remedy}")


def _finite(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -math.inf < value < math.inf:
        raise InvalidItem(f"{name} is {value!r}: it must be a finite number")
    return value


def _check_bias(logit_bias: object) -> None:
    if not isinstance(logit_bias, Mapping):
        raise InvalidItem(f"logit_bias is {logit_bias!r}: it must map token ids to numbers")
    for token, bias in logit_bias.items():
        _check_whole("a token of logit_bias", token, 0, None)
        _check_number(f"the logit_bias of token {token}", bias, -_MAX_BIAS, _MAX_BIAS)


def _check_stops(stop: object, stop_token_ids: object) -> None:
    for name, given in (("stop", stop), ("stop_token_ids", stop_token_ids)):
        if not isinstance(given, tuple):
            raise InvalidItem(f"{name} is {given!r}: it must be a tuple, such as ({given!r},)")
        if len(given) > MAX_STOPS:
            raise InvalidItem(f"{name} has {len(given)} members: {MAX_STOPS} are the most")
    assert isinstance(stop, tuple)
    assert isinstance(stop_token_ids, tuple)
    for text in stop:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_CHARACTERS:
            raise InvalidItem(f"stop has {text!r:.80}: each must be a text of 1 to {MAX_STOP_CHARACTERS:,} characters")
    for token in stop_token_ids:
        _check_whole("a token of stop_token_ids", token, 0, None)
