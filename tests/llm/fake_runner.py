"""A runner whose next token is a function of the tokens that it finds in its cache; and what goes with it."""

from __future__ import annotations

import string
import threading
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from carpool.llm.parts import Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from carpool.llm.runner import StepBatch

LETTERS = string.ascii_lowercase + " ."
EOS = len(LETTERS)
VOCABULARY_SIZE = EOS + 4


def next_token(context: Sequence[int], *, can_end: bool = False) -> int:
    """Say what follows a context: a hash of all of its tokens.

    Args:
        context: token ids.
        can_end: whether it may be the end of the text.
    """
    state = 7
    for token in context:
        state = (state * 31 + token + 1) % 1_000_003
    return state % (EOS + 1 if can_end else EOS)


def expected(prompt: Sequence[int], num_tokens: int, *, can_end: bool = False) -> list[int]:
    """Generate by hand.

    Args:
        prompt: token ids.
        num_tokens: how many to generate at most.
        can_end: whether the text may end before.
    """
    tokens = list(prompt)
    for _ in range(num_tokens):
        tokens.append(next_token(tokens, can_end=can_end))
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]


def text(tokens: Sequence[int]) -> str:
    """Say what tokens read as."""
    return "".join(LETTERS[token] for token in tokens if token < EOS)


def tokens(letters: str) -> list[int]:
    """Say which tokens a text is."""
    return [LETTERS.index(letter) for letter in letters]


class FakeRunner:
    """Keeps the tokens themselves in its cache, and answers by what it reads there, block by block.

    Args:
        num_blocks: blocks in the cache.
        block_size: tokens in a block.
        max_length: the longest sequence.
        can_end: whether texts may end by themselves.
        before: is called with each batch; may raise or wait.
    """

    vocabulary_size = VOCABULARY_SIZE
    weights_bytes = 0
    cache_bytes = 0

    def __init__(
        self,
        num_blocks: int = 64,
        block_size: int = 4,
        *,
        max_length: int = 128,
        can_end: bool = False,
        before: Callable[[StepBatch], None] = lambda batch: None,
    ) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_length = max_length
        self.can_end = can_end
        self.before = before
        self.cache = np.full(num_blocks * block_size, -1, np.int64)
        self.num_runs = 0
        self.threads: set[int] = set()

    def warm_up(self) -> None:
        """Take note of the thread."""
        self.threads.add(threading.get_ident())

    def run(self, batch: StepBatch) -> torch.Tensor:
        """Compute a step."""
        self.threads.add(threading.get_ident())
        self.num_runs += 1
        self.before(batch)
        answers = np.zeros(batch.num_tokens, np.int64)
        for place in range(batch.num_sequences):
            rows = slice(int(batch.starts[place]), int(batch.starts[place + 1]))
            slots = self._slots(batch.block_tables[place], int(batch.contexts[place]))
            positions = batch.positions[rows]
            self.cache[slots[positions]] = batch.token_ids[rows]
            context = self.cache[slots].tolist()
            assert min(context) >= 0, "it attends to what was never computed"
            answers[rows] = [next_token(context[: p + 1], can_end=self.can_end) for p in positions.tolist()]
        wanted = torch.from_numpy(answers[batch.rows])
        if batch.want == "tokens":
            return wanted
        if batch.want == "hidden":
            return torch.nn.functional.one_hot(wanted, VOCABULARY_SIZE).to(torch.float32)
        return 9.0 * torch.nn.functional.one_hot(wanted, VOCABULARY_SIZE).to(torch.float32)

    def _slots(self, blocks: NDArray[np.int32], length: int) -> NDArray[np.int64]:
        positions = np.arange(length)
        firsts = blocks[positions // self.block_size].astype(np.int64) * self.block_size
        slots: NDArray[np.int64] = firsts + positions % self.block_size
        return slots


def tokenizer() -> Tokenizer:
    """Make a tokenizer whose tokens are letters."""
    names = [*LETTERS.replace(" ", "\u0120"), "<end>", "<a>", "<b>", "<c>"]  # what a blank is in a vocabulary of bytes
    made = Tokenizer(BPE({name: number for number, name in enumerate(names)}, []))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    made.add_special_tokens(names[EOS:])
    return made


def parts(runner: FakeRunner) -> Parts:
    """Put together what an engine works with."""
    return Parts(runner=runner, tokenizer=tokenizer(), eos_ids=frozenset({EOS}), name="letters")
