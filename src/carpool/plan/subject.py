"""What a plan is made for: the measured model, as far as predictions need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from carpool.cost.model import CostModel
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # of one parameter


class MeasuredMemory(Protocol):
    """What a profile found of memory."""

    @property
    def limit_bytes(self) -> int | None:
        """The most that a batch may need."""


class MeasuredPenalty(Protocol):
    """What a pause adds to the call that follows it."""

    @property
    def idle_s(self) -> float:
        """Seconds that the model was idle."""

    @property
    def extra_s(self) -> float:
        """Seconds that the next call takes longer."""


class MeasuredModel(Protocol):
    """The part of every profile that plans are made from, whatever the model."""

    @property
    def target(self) -> str:
        """The TARGET that was profiled."""

    @property
    def name(self) -> str:
        """The model's short name."""

    @property
    def call_spread(self) -> tuple[float, ...]:
        """How single calls scatter."""

    @property
    def drift(self) -> float:
        """How much slower the machine became."""


class MeasuredProfile(MeasuredModel, Protocol):
    """The part of a profile that plans are made from; `carpool.profile.artefact.Profile` has it."""

    @property
    def num_parameters(self) -> int | None:
        """How many parameters the model has."""

    @property
    def cost_model(self) -> CostModel | None:
        """What batches cost."""

    @property
    def idle_penalties(self) -> Sequence[MeasuredPenalty]:
        """How much longer calls take after a pause."""

    @property
    def length_buckets(self) -> tuple[int, ...]:
        """What the model pads to."""

    @property
    def ragged(self) -> bool:
        """Whether it runs items side by side without padding."""

    @property
    def token_buckets(self) -> tuple[int, ...]:
        """What it then rounds a batch's tokens up to."""

    @property
    def preferred_tokens(self) -> int | None:
        """What it holds a ragged batch to where nobody says how much."""

    @property
    def example_lengths(self) -> tuple[int, ...]:
        """Lengths of typical items."""

    @property
    def max_length(self) -> int | None:
        """Longest item that the model takes."""

    @property
    def memory(self) -> MeasuredMemory:
        """What was found of memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A measured model.

    Args:
        target: The TARGET that was profiled.
        name: The model's short name.
        cost: What batches cost, with its error and its range.
        call_spread: How single calls of one shape scatter: the quantiles, evenly spaced from 0 to 1, of a call's time
            over the median of its shape; empty for no scatter.
        idle_penalties: How much longer a batch takes after the worker was idle: pairs of seconds idle and seconds more,
            both rising; in between in proportion.
        drift: How much slower the machine became while it was measured: 0.02 is 2 %.
        length_buckets: Lengths that the model pads to, ascending; empty where it pads to the longest member.
        ragged: Whether it runs items side by side without padding.
        token_buckets: What it then rounds a batch's tokens up to, ascending.
        preferred_tokens: What it holds a ragged batch to where nobody says how much; None for no limit.
        example_lengths: Lengths of typical items in no order, at least one: what a workload draws from if told nothing.
        max_length: Longest item that the model takes; longer ones are cut. None for no limit.
        memory_limit_bytes: Most memory that a batch may need; None where it was not learned.
        weights_bytes: What the model's parameters take; None where they could not be counted.
    """

    target: str
    name: str
    cost: CostModel
    call_spread: tuple[float, ...] = ()
    idle_penalties: tuple[tuple[float, float], ...] = ()
    drift: float = 0.0
    length_buckets: tuple[int, ...] = ()
    ragged: bool = False
    token_buckets: tuple[int, ...] = ()
    preferred_tokens: int | None = None
    example_lengths: tuple[int, ...] = (1,)
    max_length: int | None = None
    memory_limit_bytes: int | None = None
    weights_bytes: int | None = None

    @classmethod
    def of(cls, profile: MeasuredProfile) -> Subject:
        """Take what a plan needs from a profile.

        Raises:
            ConfigError: The profile has no cost model, because too little was measured.
        """
        if profile.cost_model is None:
            raise ConfigError(
                f"the profile of {profile.target} has no cost model, because too few shapes were measured: "
                f"profile it again with more time (carpool profile {profile.target} --budget 60s)"
            )
        return cls(
            target=profile.target,
            name=profile.name,
            cost=profile.cost_model,
            call_spread=profile.call_spread,
            idle_penalties=tuple((one.idle_s, one.extra_s) for one in profile.idle_penalties),
            drift=profile.drift,
            length_buckets=profile.length_buckets,
            ragged=profile.ragged,
            token_buckets=profile.token_buckets,
            preferred_tokens=profile.preferred_tokens,
            example_lengths=profile.example_lengths or profile.cost_model.lengths,
            max_length=profile.max_length,
            memory_limit_bytes=profile.memory.limit_bytes,
            weights_bytes=_weights_bytes(profile.num_parameters, profile.cost_model),
        )


def _weights_bytes(num_parameters: int | None, cost_model: CostModel) -> int | None:
    """Return what so many parameters take in the dtype that was measured."""
    each = _BYTES.get(cost_model.measured_on.get("dtype", ""))
    return None if num_parameters is None or each is None else num_parameters * each
