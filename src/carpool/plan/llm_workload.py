"""What arrives at a model that generates: when, how long prompts and answers are, and what prompts have in common."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from carpool.errors import ConfigError
from carpool.plan.arrivals import require_positive
from carpool.plan.process import Arrivals, Replay
from carpool.units import counted, format_count

if TYPE_CHECKING:
    from numpy.random import Generator

# No answer is drawn longer than so many times the typical one: a distribution's tail has no end, a conversation's has.
_MOST_TIMES = 20.0
_TO_COUNT = 2_000  # generations that are drawn to see how many are too long


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of prompts, or of answers.

    Args:
        typical: Typical lengths, one as likely as another.
        spread: Standard deviation of the logarithm of a lognormal factor of mean 1 that each drawn length is multiplied
            with; 0 leaves them as they are.

    Raises:
        ConfigError: There is no length, one below 1, or a spread below 0.

    >>> lengths = Lengths(typical=(100,), spread=0.5)
    >>> drawn = lengths.draw(np.random.default_rng(0), 10_000)
    >>> int(drawn.min()) < 40, int(drawn.max()) > 300, abs(int(drawn.mean()) - 100) < 3
    (True, True, True)
    """

    typical: tuple[int, ...]
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not self.typical or min(self.typical) < 1:
            raise ConfigError(f"the lengths {self.typical} can't be drawn from: give at least one, each at least 1")
        if not 0 <= self.spread < float("inf"):
            raise ConfigError(f"a spread of {self.spread:g} can't be: give 0 for none, or such as 0.7")

    def draw(self, rng: Generator, num: int) -> NDArray[np.int64]:
        """Draw so many lengths, each at least 1."""
        drawn = rng.choice(np.array(self.typical, dtype=np.float64), num)
        if self.spread:
            drawn *= np.minimum(rng.lognormal(-(self.spread**2) / 2, self.spread, num), _MOST_TIMES)
        return np.maximum(np.round(drawn), 1).astype(np.int64)

    def describe(self) -> str:
        """Say what they are, such as `64 to 512 tokens, spread 0.7`."""
        low, high = min(self.typical), max(self.typical)
        tokens = counted(low, "token") if low == high else f"{low:,} to {high:,} tokens"
        return f"{tokens}, spread {self.spread:g}" if self.spread else tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmStream:
    """Generations that are going to arrive in one window, in order.

    Args:
        times_s: When each arrives, rising seconds from the start of the window [n].
        prompt_lengths: Tokens of each prompt, at least 1 [n].
        output_lengths: Tokens generated for each, at least 1 [n].
        window_s: Length of the window in seconds.
        prefixes: Which of the common beginnings each prompt has [n]; None where there are none.
        shared_prefix: Tokens of a common beginning; a prompt has at least one token of its own after it.
    """

    times_s: NDArray[np.float64]
    prompt_lengths: NDArray[np.int64]
    output_lengths: NDArray[np.int64]
    window_s: float
    prefixes: NDArray[np.int64] | None = None
    shared_prefix: int = 0

    def __len__(self) -> int:
        return len(self.times_s)

    def part(self, number: int, of: int) -> LlmStream:
        """Return every so manieth arrival: what one of several workers gets that are served in turn."""
        return replace(
            self,
            times_s=self.times_s[number::of],
            prompt_lengths=self.prompt_lengths[number::of],
            output_lengths=self.output_lengths[number::of],
            prefixes=None if self.prefixes is None else self.prefixes[number::of],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmWorkload:
    """Generations to come.

    Args:
        arrivals: When they come.
        prompts: Tokens of prompts; unused where `arrivals` replays a trace that recorded them.
        outputs: Tokens of answers; likewise.
        shared_prefix: Tokens that prompts begin with in common, such as instructions; 0 for none.
        num_prefixes: Different such beginnings, one as likely as another.

    Raises:
        ConfigError: A trace has no lengths and none were given, or a number is out of its range.
    """

    arrivals: Arrivals
    prompts: Lengths | None = None
    outputs: Lengths | None = None
    shared_prefix: int = 0
    num_prefixes: int = 1

    def __post_init__(self) -> None:
        if self.shared_prefix < 0:
            raise ConfigError(f"a shared prefix of {self.shared_prefix} tokens can't be: give such as 200, or 0")
        if self.num_prefixes < 1:
            raise ConfigError(f"{self.num_prefixes} shared prefixes can't be drawn from: give at least 1")
        for what, given, recorded in (
            ("prompts", self.prompts, self._recorded("lengths")),
            ("answers", self.outputs, self._recorded("output_lengths")),
        ):
            if given is None and recorded is None:
                option = "--lengths 200" if what == "prompts" else "--output-lengths 100"
                raise ConfigError(f"nothing says how long {what} are: give {option}, or a --trace that recorded it")

    def _recorded(self, name: str) -> NDArray[np.int64] | None:
        """Return the lengths that a trace recorded; None where there is none, or others were given."""
        found: NDArray[np.int64] | None = None
        if isinstance(self.arrivals, Replay):
            found = getattr(self.arrivals.trace, name)
        return found

    @property
    def rate(self) -> float:
        """Mean generations a second."""
        return self.arrivals.rate

    def scaled(self, factor: float) -> LlmWorkload:
        """Return the same with so many times the rate; a trace is played as much faster.

        Raises:
            ConfigError: The factor is not a finite number above 0.
        """
        require_positive("factor", factor)
        return replace(self, arrivals=self.arrivals.scaled(factor))

    def draw(self, rng: Generator, window_s: float) -> LlmStream:
        """Draw what arrives in one window.

        Args:
            rng: The source of randomness; the same seed gives the same stream.
            window_s: Length of the window in seconds.

        Raises:
            ConfigError: The window is not a finite time above 0, or holds more than can be simulated.
        """
        rows: NDArray[np.int64] | None = None
        if isinstance(self.arrivals, Replay):
            times_s, rows = self.arrivals.draw_rows(rng, window_s)
        else:
            times_s, _ = self.arrivals.draw(rng, window_s)
        num = len(times_s)
        prompts = self._draw(rng, num, self.prompts, "lengths", rows)
        outputs = self._draw(rng, num, self.outputs, "output_lengths", rows)
        return LlmStream(
            times_s=times_s,
            prompt_lengths=prompts,
            output_lengths=np.maximum(outputs, 1),  # a trace may have answers of nothing, which still cost a step
            window_s=window_s,
            prefixes=rng.integers(0, self.num_prefixes, num) if self.shared_prefix else None,
            shared_prefix=self.shared_prefix,
        )

    def _draw(
        self, rng: Generator, num: int, given: Lengths | None, name: str, rows: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        if given is not None:
            return given.draw(rng, num)
        recorded = self._recorded(name)
        assert recorded is not None, "one of both is there"
        assert rows is not None, "only a trace records lengths"
        return recorded[rows]

    def describe(self) -> str:
        """Say what arrives in one sentence.

        >>> from carpool.plan.process import Poisson
        >>> LlmWorkload(
        ...     arrivals=Poisson(rate=2), prompts=Lengths(typical=(200,)), outputs=Lengths(typical=(80,), spread=0.5)
        ... ).describe()
        'Poisson arrivals at 2/s; prompts of 200 tokens; answers of 80 tokens, spread 0.5.'
        """
        parts = [
            self.arrivals.describe(),
            f"prompts of {self._described(self.prompts, 'lengths')}",
            f"answers of {self._described(self.outputs, 'output_lengths')}",
        ]
        if self.shared_prefix:
            which = "one beginning" if self.num_prefixes == 1 else f"one of {self.num_prefixes} beginnings"
            parts.append(f"{which} of {counted(self.shared_prefix, 'token')} in common")
        return f"{'; '.join(parts)}."

    def _described(self, given: Lengths | None, name: str) -> str:
        recorded = self._recorded(name)
        if given is not None or recorded is None:
            assert given is not None, "one of both is there"
            return given.describe()
        mean = format_count(float(recorded.mean()))
        return f"{recorded.min():,} to {recorded.max():,} tokens, {mean} on average, as recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clipped:
    """A workload whose generations are cut to what a model takes.

    Args:
        workload: What arrives.
        max_length: The longest sequence, prompt and answer together, in tokens.
    """

    workload: LlmWorkload
    max_length: int

    @property
    def rate(self) -> float:
        """Mean generations a second."""
        return self.workload.rate

    def scaled(self, factor: float) -> Clipped:
        """Return the same with so many times the rate."""
        return replace(self, workload=self.workload.scaled(factor))

    def draw(self, rng: Generator, window_s: float) -> LlmStream:
        """Draw what arrives in one window: what is too long loses the end of its prompt, then of its answer."""
        stream = self.workload.draw(rng, window_s)
        prompts = np.minimum(stream.prompt_lengths, max(1, self.max_length - 1))
        outputs = np.minimum(stream.output_lengths, np.maximum(1, self.max_length - prompts))
        return replace(stream, prompt_lengths=prompts, output_lengths=outputs)

    def share_cut(self, rng: Generator) -> float:
        """Return the share of the generations that are cut: of a whole trace, or of many that are drawn."""
        arrivals = self.workload.arrivals
        window_s = arrivals.trace.duration_s if isinstance(arrivals, Replay) else _TO_COUNT / arrivals.rate
        stream = self.workload.draw(rng, window_s)
        longer = stream.prompt_lengths + stream.output_lengths > self.max_length
        return float(longer.mean()) if len(stream) else 0.0
