"""A stepper driven by hand: a virtual clock, a fake runner, and outputs that are taken at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.core.clock import VirtualClock
from carpool.core.step_policy import StepPolicy
from carpool.llm.request import Generation
from carpool.llm.sampling_params import SamplingParams
from carpool.llm.stepper import Stepper
from tests.llm.fake_runner import FakeRunner, parts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carpool.llm.job import Job
    from carpool.llm.outputs import Output
    from carpool.signals.llm_events import LLMEvent


class AtOnce:
    """Takes outputs within the step."""

    def post(self, call: Callable[[], None], /) -> bool:
        """Call."""
        call()
        return True


class Later:
    """Takes outputs when it is told to."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def post(self, call: Callable[[], None], /) -> bool:
        """Keep the call."""
        self.calls.append(call)
        return True

    def run(self) -> None:
        """Make the calls that were kept."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Gone:
    """Nobody takes outputs any more."""

    def post(self, call: Callable[[], None], /) -> bool:
        """Refuse."""
        return False


class Diary:
    """Keeps events."""

    def __init__(self) -> None:
        self.events: list[LLMEvent] = []

    def record(self, event: LLMEvent, /) -> None:
        """Keep one."""
        self.events.append(event)

    def of(self, kind: type) -> list[Any]:
        """Return those of a kind."""
        return [event for event in self.events if isinstance(event, kind)]


class Asked:
    """A generation that was submitted, and what came of it."""

    def __init__(self) -> None:
        self.outputs: list[Output] = []
        self.jobs: list[Job] = []

    def text(self, index: int = 0) -> str:
        """The text of one of its sequences."""
        return "".join(output.text for output in self.outputs if output.index == index)

    def token_ids(self, index: int = 0) -> list[int]:
        """The tokens of one of its sequences."""
        return [token for output in self.outputs if output.index == index for token in output.token_ids]

    def reason(self, index: int = 0) -> str | None:
        """Why one of its sequences ended."""
        found = [output.finish_reason for output in self.outputs if output.index == index and output.finish_reason]
        assert len(found) <= 1, "it ended twice"
        return found[0] if found else None


class Bench:
    """A stepper on the bench.

    Args:
        runner: computes.
        policy: how steps are formed.
    """

    def __init__(self, runner: FakeRunner | None = None, **policy: Any) -> None:
        self.runner = runner or FakeRunner()
        self.clock = VirtualClock()
        self.diary = Diary()
        policy = {"num_slots": 4, "token_budget": 8, **policy}
        self.stepper = Stepper(parts(self.runner), StepPolicy(**policy), self.clock, self.diary)

    def submit(
        self, prompt: Sequence[int], *, consumer: Any = None, options: dict[str, Any] | None = None, **params: Any
    ) -> Asked:
        """Submit a greedy generation.

        Args:
            prompt: token ids.
            consumer: where the outputs are taken; at once by default.
            options: of the generation.
            params: of sampling.
        """
        asked = Asked()
        sampling = SamplingParams(**{"temperature": 0.0, "max_tokens": 6, **params})
        generation = Generation(prompt=tuple(prompt), params=sampling, **(options or {}))
        asked.jobs = self.stepper.submit(generation, asked.outputs.append, consumer or AtOnce())
        return asked

    def step(self) -> bool:
        """Compute a step, a second long."""
        ran = self.stepper.step()
        self.clock.advance_to(self.clock.now() + 1.0)
        self.stepper.check_integrity()
        return ran

    def run(self) -> int:
        """Step until there is nothing to do; return how many steps that took."""
        num_steps = 0
        while self.step():
            num_steps += 1
            assert num_steps < 10_000, "it never ends"
        return num_steps
