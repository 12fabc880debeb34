"""What a profile is asked to cover, and how long it may take."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
DEFAULT_LENGTHS = (16, 32, 64, 128)
LEAST_BUDGET_S = 1.0
DEFAULT_OUT = Path("out")
# What the options are called on the command line, where that is not their own name.
FLAGS: Mapping[str, str] = MappingProxyType(
    {"num_threads": "threads", "budget_s": "budget", "memory_limit_bytes": "memory-limit", "probe_memory": "memory"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileOptions:
    """What to measure.

    Args:
        batch_sizes: Items in a batch, each at least 1.
        lengths: Tokens of an item; none takes 16, 32, 64 and 128, or what the model's own examples have. Of a model
            that generates, tokens that a sequence has in the cache.
        chunks: Of a model that generates, tokens of a prompt that a step computes; none takes 32, 128 and 512.
        device: As PyTorch names devices; None lets the model choose.
        dtype: Such as `bfloat16`; None lets the model choose.
        num_threads: Threads of one operation on a CPU; None leaves the library's choice.
        budget_s: About how long all of it may take, in seconds.
        memory_limit_bytes: Most memory that a batch may need, or of a model that generates its keys and values; None
            takes what the machine allows.
        probe_memory: Whether memory is probed in processes of their own.
        seed: Another seed measures in another order, with other items.
        out: The folder that the profile is written to: what says how to measure again repeats it.

    Raises:
        ConfigError: A value is out of range; the message names value, limit and remedy.
    """

    batch_sizes: tuple[int, ...] = DEFAULT_BATCH_SIZES
    lengths: tuple[int, ...] = ()
    chunks: tuple[int, ...] = ()
    device: str | None = None
    dtype: str | None = None
    num_threads: int | None = None
    budget_s: float = 45.0
    memory_limit_bytes: int | None = None
    probe_memory: bool = True
    seed: int = 0
    out: Path = DEFAULT_OUT

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        if not self.batch_sizes:
            raise ConfigError("there are no batch sizes to measure: give some, such as 1,2,4,8")
        _require_positive("batch size", self.batch_sizes, "1,2,4,8")
        _require_positive("length", self.lengths, "16,64")
        _require_positive("chunk", self.chunks, "32,512")
        if not LEAST_BUDGET_S <= self.budget_s < float("inf"):
            raise ConfigError(
                f"a budget of {self.budget_s:g} s is outside {LEAST_BUDGET_S:g} s to forever: give more, such as 45s"
            )
        if self.memory_limit_bytes is not None and self.memory_limit_bytes < 1:
            raise ConfigError(f"a memory limit of {self.memory_limit_bytes} bytes holds nothing: give one such as 8GiB")

    def given(self) -> dict[str, Any]:
        """Return the options that are not what they are by default."""
        values = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def as_flags(self) -> str:
        """Return the same as words of the command line, each after a space.

        >>> ProfileOptions(batch_sizes=(1, 2), num_threads=1, probe_memory=False, budget_s=90).as_flags()
        ' --batch-sizes 1,2 --threads 1 --budget 90s --no-memory'
        """
        return "".join(f" {_flag(name, value)}" for name, value in self.given().items())


def _flag(name: str, value: Any) -> str:
    flag = FLAGS.get(name, name).replace("_", "-")
    if value is False:
        return f"--no-{flag}"
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return f"--{flag} {f'{value:g}s' if name == 'budget_s' else shlex.quote(str(value))}"


def _require_positive(what: str, sizes: tuple[int, ...], example: str) -> None:
    wrong = next((size for size in sizes if size < 1), None)
    if wrong is not None:
        raise ConfigError(f"a {what} of {wrong} can't be measured: it must be at least 1, as in {example}")
