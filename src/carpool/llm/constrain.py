"""Hold generated text to a form: which tokens may come next under a JSON schema, an expression or a grammar.

The grammars are compiled and followed by llguidance, token by token, in tens of microseconds.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING

import numpy as np

from carpool.errors import CarpoolError, ConfigError, InvalidItem

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from llguidance import LLMatcher, LLTokenizer
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from carpool.llm.constraint import Constraint

_NUM_KEPT = 64
_MOST_TOLD = 300
_MOST_WORK = 50_000  # in llguidance's own unit, for one token: a form that needs more would hold up the whole batch
_MOST_STATES = 50_000  # of one to two KB each
_BLANKS = r"[ \t\r\n]{0,40}"
"""What may stand between the parts of JSON. Without a limit a model that is unsure goes on with blanks for ever."""


class Matcher:
    """Follows the text of one sequence through the form that it must have.

    Args:
        matcher: llguidance's, which nobody else uses.
        kind: what the form is called.
        num_tokens: tokens that it knows.
    """

    __slots__ = ("_kind", "_matcher", "num_tokens")

    def __init__(self, matcher: LLMatcher, kind: str, num_tokens: int) -> None:
        self._matcher = matcher
        self._kind = kind
        self.num_tokens = num_tokens

    def copy(self) -> Matcher:
        """Make another that goes on from the same place."""
        return Matcher(self._matcher.deep_copy(), self._kind, self.num_tokens)

    def fill(self, allowed: NDArray[np.int32]) -> CarpoolError | None:
        """Write which tokens may come next, a bit each; say why that can't be told, if it can't.

        Args:
            allowed: (ceil(num_tokens / 32),) contiguous; token t is bit `t % 32` of word `t // 32`.
        """
        self._matcher.unsafe_compute_mask_ptr(allowed.ctypes.data, allowed.nbytes)
        return self._trouble()

    def accept(self, token: int) -> CarpoolError | None:
        """Go on by a token; say why that can't be, if it can't."""
        self._matcher.consume_token(token)
        return self._trouble()

    @property
    def is_complete(self) -> bool:
        """Whether the text has its form, and nothing may be added to it."""
        return self._matcher.is_stopped() and not self._matcher.is_error()

    @property
    def may_end(self) -> bool:
        """Whether the text has its form."""
        return self._matcher.is_accepting()

    def _trouble(self) -> CarpoolError | None:
        if not self._matcher.is_error():
            return None
        return InvalidItem(
            f"the {self._kind} constraint can't be followed any further: {_short(self._matcher.get_error())}"
        )


class ConstraintCompiler:
    """Makes matchers for a model, and keeps the forms that were compiled last; may be used from several threads.

    Args:
        tokenizer: the model's.
        eos_ids: tokens that it ends its texts with: they may come where the form is complete.
        vocabulary_size: logits in a row: often some more than the tokenizer has tokens, at times fewer.
    """

    def __init__(self, tokenizer: Tokenizer, eos_ids: frozenset[int], vocabulary_size: int) -> None:
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._num_tokens = max(vocabulary_size, 1 + max(tokenizer.get_vocab().values(), default=0))
        self._lock = threading.Lock()  # of what is kept
        self._reading = threading.Lock()  # of the tokenizer, once
        self._tokens: LLTokenizer | None = None
        self._kept: dict[Constraint, Matcher] = {}

    def matcher(self, constraint: Constraint) -> Matcher:
        """Make a matcher for a new sequence; the first of a model takes half a second, one for a new form milliseconds.

        Raises:
            InvalidItem: the form is wrong, or uses what is not supported.
            ConfigError: llguidance is not installed, or can't read the model's tokenizer.
        """
        with self._lock:
            kept = self._kept.pop(constraint, None)
        if kept is None:
            kept = self._compile(constraint)  # which takes its time, and holds up nobody else
        with self._lock:
            self._kept[constraint] = kept
            if len(self._kept) > _NUM_KEPT:
                del self._kept[next(iter(self._kept))]
            return kept.copy()

    def _compile(self, constraint: Constraint) -> Matcher:
        with self._reading:
            self._tokens = self._tokens or self._read_tokens()
        import llguidance

        try:
            grammar = _grammar(constraint)
        except ValueError as error:
            raise InvalidItem(f"the {constraint.kind} constraint can't be read: {_short(str(error))}") from error
        limits = llguidance.LLParserLimits(
            step_lexer_fuel=_MOST_WORK, max_lexer_states=_MOST_STATES, verbose_errors=False
        )
        matcher = llguidance.LLMatcher(self._tokens, grammar, log_level=0, limits=limits)
        matcher.compute_bitmask()  # forms that are too complex, and those that no text has, are found out here
        if matcher.is_error():
            raise InvalidItem(f"the {constraint.kind} constraint can't be used: {_short(matcher.get_error())}")
        return Matcher(matcher, constraint.kind, self._num_tokens)

    def _read_tokens(self) -> LLTokenizer:
        try:
            import llguidance
        except ImportError as error:
            raise ConfigError(
                "constraints on the text need the package llguidance: run `pip install 'carpool[llm]'`"
            ) from error
        plain = copy.copy(self._tokenizer)
        plain.no_padding()
        plain.no_truncation()
        eos = [token for token in sorted(self._eos_ids) if token < self._num_tokens] or None
        try:
            return llguidance.LLTokenizer(plain.to_str(), n_vocab=self._num_tokens, eos_token=eos)
        except (ValueError, RuntimeError) as error:
            raise ConfigError(
                f"llguidance can't read this model's tokenizer, so that no constraint works: {error}"
            ) from error


def _short(message: str) -> str:
    """What is wrong, without all of a long expression."""
    message = " ".join(message.removesuffix("<non-verbose/>").split())  # it draws with blanks and line ends
    return message if len(message) <= _MOST_TOLD else f"{message[:_MOST_TOLD]} ..."


def _grammar(constraint: Constraint) -> str:
    import llguidance

    if constraint.kind in {"json_schema", "json_object"}:
        return llguidance.LLMatcher.grammar_from_json_schema(constraint.text, overrides={"whitespace_pattern": _BLANKS})
    if constraint.kind == "regex":
        return llguidance.LLMatcher.grammar_from_regex(constraint.text)
    return llguidance.grammar_from("choice" if constraint.kind == "choice" else "grammar", constraint.text)


def constrain(logits: torch.Tensor, matchers: Mapping[int, Matcher]) -> dict[int, CarpoolError]:
    """Make impossible what constraints don't allow, in place.

    Args:
        logits: (R, V).
        matchers: by the row that each is of.

    Returns:
        What is wrong with rows whose constraint can't go on.
    """
    if not matchers:
        return {}
    import torch

    num_tokens = next(iter(matchers.values())).num_tokens  # a model's matchers all know the same tokens
    words = np.zeros((len(matchers), -(-num_tokens // 32)), dtype=np.int32)
    found = {row: matcher.fill(words[at]) for at, (row, matcher) in enumerate(matchers.items())}
    bits = np.unpackbits(words.view(np.uint8), axis=1, count=logits.shape[1], bitorder="little")
    ruled_out = torch.from_numpy(bits == 0).to(logits.device)
    for at, row in enumerate(matchers):
        logits[row].masked_fill_(ruled_out[at], -torch.inf)
    return {row: trouble for row, trouble in found.items() if trouble is not None}
