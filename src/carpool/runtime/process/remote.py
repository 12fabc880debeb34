"""A model that runs in a process of its own, and looks like one that runs here."""

from __future__ import annotations

import contextlib
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, ConfigError, ModelError, ModelHung, WorkerDied
from carpool.models.blame import text_of
from carpool.models.model import Admitted, Model, ModelInfo, Recipe
from carpool.runtime.process.channel import Unreadable
from carpool.runtime.process.rows import pack, unpack, unpack_error
from carpool.runtime.process.spawn import Child, cause_of_death
from carpool.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_END_WITHIN_S = 5.0


class RemoteModel(Model):
    """A model whose items are admitted here and whose batches run in a process of its own.

    `load` starts the process anew where it has ended. All but `kill` and `is_dead` is for one thread.

    Args:
        local: the same model here, of which only the admission is loaded.
        recipe: how the process makes its own.
        device: where that one computes; None leaves what the recipe says.
        number: of its worker.
        num_workers: how many there are, each with a process.
        loading: held while the admission is loaded, where several share it.
        on_death: called, on any thread, when the process has ended.

    Raises:
        ConfigError: the model can't be sent to another process.
    """

    def __init__(
        self,
        local: Model,
        recipe: Recipe,
        *,
        device: str | None = None,
        number: int = 0,
        num_workers: int = 1,
        loading: threading.Lock | None = None,
        on_death: Callable[[], None] = lambda: None,
    ) -> None:
        self._local = local
        self._order = (sendable_recipe(recipe), device, num_workers)
        self._number = number
        self._loading = loading or threading.Lock()
        self._on_death = on_death
        self._child: Child | None = None
        self._info: ModelInfo | None = None
        self._hung: ModelHung | None = None
        self._death: CarpoolError | None = None

    # ------------------------------------------------------------------------------------------- what is here

    @property
    def info(self) -> ModelInfo:
        """What this model is: as its process says, once it is loaded."""
        return self._info or self._local.info

    @property
    def has_length(self) -> bool:
        """Whether items differ in length."""
        return self._local.has_length

    def admit(self, item: object) -> Admitted:
        """Check one item and prepare it, here.

        Raises:
            InvalidItem: the model can't take it.
        """
        return self._local.admit(item)

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Items to measure with.

        Raises:
            ConfigError: the target offers none.
        """
        return self._local.examples(num_items, length=length, seed=seed)

    def flops(self, batch_size: int, length: int) -> float | None:
        """Floating-point operations of one batch, or None where no formula is known."""
        return self._local.flops(batch_size, length)

    def padded_length(self, length: int) -> int:
        """The length that a batch is padded to, given its longest item's."""
        return self._local.padded_length(length)

    def rounded_total(self, num_tokens: int) -> int:
        """The tokens that a ragged batch runs, given the sum of its items' lengths."""
        return self._local.rounded_total(num_tokens)

    @property
    def preferred_tokens(self) -> int | None:
        """Tokens of a ragged batch beyond which larger ones bring little."""
        return self._local.preferred_tokens

    # ------------------------------------------------------------------------------------------ what is there

    def load(self) -> None:
        """Start the process, and wait until it has loaded the model; nothing happens while it lives.

        Raises:
            CarpoolError: what its loading raised, or that it ended meanwhile.
        """
        if self._child is not None and not self.is_dead:
            return
        self.close()
        with self._loading:
            self._local.load_admission()
        self._hung = self._death = None
        self._child = Child(self._number, self._on_death)
        self._info = self._asked(sys.path, self._order, doing="while it loaded the model")

    def run(self, payloads: Sequence[Any]) -> list[Any]:
        """Run one batch there.

        Raises:
            CarpoolError: as `run_checked`.
        """
        return self.run_checked(payloads, len(payloads))

    def run_checked(self, payloads: Sequence[Any], size: int) -> list[Any]:
        """Run one batch there; return a result or a `CarpoolError` for each payload.

        Args:
            payloads: at least one.
            size: rows to run; rows beyond the payloads repeat the last one.

        Raises:
            CarpoolError: what the batch failed of there.
            WorkerDied: the process ended.
            ModelHung: it was ended because it took too long.
        """
        doing = f"while it ran a batch of {counted(len(payloads), 'item')}"
        return unpack(self._asked((pack(payloads), size), doing=doing))

    def _asked(self, *messages: Any, doing: str) -> Any:
        """Send messages, and return what the process answers to the last one."""
        assert self._child is not None, "load() comes before run()"
        channel = self._child.channel
        try:
            for message in messages:
                channel.send(message)
            succeeded, answer = channel.receive()
        except (OSError, EOFError) as error:
            raise self.death(doing) from error
        except Unreadable as error:
            raise ModelError(
                f"the results of the worker's process can't be read here ({error}): return arrays, numbers, texts, or "
                "lists and dicts of them"
            ) from error
        except Exception as error:
            raise ModelError(
                f"an item can't be sent to the worker's process ({type(error).__name__}: {text_of(error)}): send "
                'arrays, numbers, texts, or lists and dicts of them, or run the model with worker="thread"'
            ) from error
        if not succeeded:
            raise unpack_error(answer)
        return answer

    @property
    def is_dead(self) -> bool:
        """Whether the process has ended."""
        return self._child is None or self._child.ended.is_set()

    @property
    def pid(self) -> int | None:
        """The number of the process; None before it was started."""
        return self._child.pid if self._child is not None else None

    def death(self, doing: str = "while it had nothing to do") -> CarpoolError:
        """Say what the process ended of.

        Args:
            doing: what it did then; the first to say so is believed.
        """
        child = self._child
        assert child is not None, "it was started"
        if not child.ended.wait(_END_WITHIN_S):  # it has closed its pipe, and runs on
            child.kill()
            child.ended.wait()
        assert child.exit_code is not None, "it has ended"
        if self._death is None:
            cause = cause_of_death(child.exit_code)
            self._death = self._hung or WorkerDied(f"the worker's process {child.pid} {cause} ({doing})")
        return self._death

    def kill(self, hung: ModelHung | None = None) -> None:
        """End the process at once; what it runs fails.

        Args:
            hung: why, where it took too long; None answers what it runs with `WorkerDied`.
        """
        self._hung = hung
        if self._child is not None:
            self._child.kill()

    def memory_bytes(self) -> int:
        """The memory that the process holds now; 0 where it has ended."""
        import psutil

        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def close(self) -> None:
        """End the process, once it has let the model go."""
        if self._child is not None:
            self._child.close(_END_WITHIN_S)
            self._child = None


def sendable_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe that another process can read: a function of a script is named by the script's file.

    Raises:
        ConfigError: the model is an object that can't be sent.
    """
    import pickle
    from dataclasses import replace

    source = recipe.source
    if getattr(source, "__module__", None) == "__main__" and (named := _named_in_script(source)):
        return replace(recipe, source=named, target=named)
    try:
        pickle.dumps(source)
    except Exception as error:
        raise ConfigError(
            f"the model {recipe.target or recipe.name} can't be sent to a worker's process "
            f"({type(error).__name__}: {text_of(error)}): give a target such as file.py:name, or a function or class "
            "from the top of a module"
        ) from error
    return recipe


def _named_in_script(source: Any) -> str:
    script = getattr(sys.modules["__main__"], "__file__", None)
    name = getattr(source, "__qualname__", "<")
    return f"{Path(script).absolute()}:{name}" if script and "<" not in name else ""
