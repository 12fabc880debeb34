"""A language model on offer: its name, its engine, and how long what it takes may be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from carpool.core.step_policy import StepPolicy
from carpool.serve.faults import Fault, bad_request
from carpool.serve.llm.token_texts import TokenTexts
from carpool.serve.on_offer import require_name, unready

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from carpool.llm.chat import ChatTemplate
    from carpool.llm.engine import Engine
    from carpool.llm.parts import Parts

PATHS = "/v1/completions and /v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """What every request is promised that says nothing of it.

    Args:
        ttft_s: seconds within which its first token is wanted; None for no such objective.
        tpot_s: seconds that may pass between its tokens; None for no such objective.
        timeout_s: seconds after which it is given up where its prompt still waits; None for never.
    """

    ttft_s: float | None = None
    tpot_s: float | None = None
    timeout_s: float | None = None


class ServedLM:
    """A language model on offer.

    Args:
        engine: generates; not yet started.
        name: what clients call it.
        version: which one of that name it is.
        policy: how its steps are formed.
        promises: what a request is promised that says nothing of it.

    Raises:
        ConfigError: the name can't stand in a URL.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        version: str = "1",
        policy: StepPolicy | None = None,
        promises: Promises | None = None,
    ) -> None:
        self.name = require_name(name)
        self.version = version
        self.engine = engine
        self.policy = policy or StepPolicy()
        self.promises = promises or Promises()
        self.num_admitting = 0  # requests that are being read on a thread, and are not submitted yet

    # ---------------------------------------------------------------------------------------- start and end

    def start(self) -> None:
        """Load the model, and warm it up.

        Raises:
            CarpoolError: it can't be loaded.
        """
        self.engine.start()

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let the model go."""
        self.engine.close(timeout_s)

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.engine.ready

    @property
    def failure(self) -> Exception | None:
        """What stopped it, or kept it from starting; None while all is well."""
        return self.engine.failure

    @property
    def trouble(self) -> str:
        """Why it can't answer now though it may again; empty where that is not so."""
        return str(self.engine.trouble or "")

    def check_ready(self) -> None:
        """Refuse requests that can't be answered now.

        Raises:
            Fault: it is still loading, or has failed.
        """
        if not self.engine.accepts:
            raise unready(self.name, self.failure)

    # -------------------------------------------------------------------------- what it is, once it is loaded

    @property
    def parts(self) -> Parts:
        """What was loaded."""
        return self.engine.parts

    @property
    def tokenizer(self) -> Tokenizer:
        """Turns texts into tokens."""
        return self.engine.parts.tokenizer

    @cached_property
    def texts(self) -> TokenTexts:
        """Says what single tokens are."""
        return TokenTexts(self.tokenizer)

    @property
    def max_length(self) -> int:
        """The longest prompt with what is generated, in tokens: what the model takes, or what the KV cache holds."""
        runner = self.engine.parts.runner
        return min(runner.max_length, runner.num_blocks * runner.block_size)

    def limit(self) -> str:
        """Say in words what the longest sequence is, and what makes it so."""
        runner = self.engine.parts.runner
        if runner.max_length <= runner.num_blocks * runner.block_size:
            return f"the model takes {runner.max_length:,} tokens"
        return f"the KV cache holds {self.max_length:,} tokens (of {runner.max_length:,} that the model takes)"

    def chat(self) -> ChatTemplate:
        """Return the chat template.

        Raises:
            Fault: the model has none.
        """
        template = self.engine.parts.chat
        if template is None:
            raise bad_request(
                f"the model {self.name!r} has no chat template: send a prompt to /v1/completions", param="model"
            )
        return template

    def no_batches(self) -> Fault:
        """Return why requests that models answer in batches are not for this one."""
        remedy = f"ask it at {PATHS}, and for vectors at /v1/embeddings"
        return bad_request(f"the model {self.name!r} generates text, which this path does not: {remedy}", param="model")
