"""Where models on offer come from: what is to be offered, and how each version of it is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Protocol

from carpool.config.settings import ServeSettings
from carpool.core import Policy
from carpool.errors import CarpoolError, ConfigError
from carpool.serve.on_offer import OnOffer
from carpool.serve.served import Served


class Named(Protocol):
    """Finds models on offer by name, for those that are made of others."""

    def named(self, name: str, version: str = "") -> Served:
        """Return the model of that name."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """One version of one model, as it is told to be.

    Args:
        name: what clients call the model.
        version: a whole number, as text.
        build: makes the model, given where others are found; it is not loaded yet.
        policy: how its batches are formed, as told; of no meaning for what forms none.
        objectives_s: promised latency in seconds by percentile, such as `{"p99": 0.05}`.
        files: what tells one state of its files and settings, besides the policy, from another; equal while nothing
            has changed.
        settings: all that was told of it; None where nothing was.
        steps: the models on offer that it is made of; empty for one that runs by itself.
    """

    name: str
    version: str
    build: Callable[[Named], OnOffer]
    _: KW_ONLY
    policy: Policy
    objectives_s: Mapping[str, float] = field(default_factory=dict)
    files: object = None
    settings: ServeSettings | None = None
    steps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What is told of one model.

    Args:
        versions: those that should be on offer, rising; none where what is told is wrong.
        error: what is wrong; None where nothing is.
    """

    versions: tuple[Blueprint, ...] = ()
    error: CarpoolError | None = None


class Source(Protocol):
    """What is to be offered; asked again each time, so that it may change."""

    def names(self) -> Iterable[str]:
        """Name every model that there is now."""

    def sheet(self, name: str, config: Mapping[str, Any] | None = None) -> Sheet | None:
        """Return what is told of a model; None where there is none of that name.

        Args:
            name: the model.
            config: tables and keys of a carpool.toml that win over all others.
        """


class Fixed:
    """Models that were made elsewhere, once.

    Args:
        served: not yet started.
    """

    def __init__(self, *served: OnOffer) -> None:
        self._served = {one.name: one for one in served}
        self._given: set[str] = set()

    def names(self) -> Iterable[str]:
        """Name them."""
        return tuple(self._served)

    def sheet(self, name: str, config: Mapping[str, Any] | None = None) -> Sheet | None:
        """Return the model as it was made.

        Raises:
            ConfigError: it should be another.
        """
        served = self._served.get(name)
        if served is None:
            return None
        if config:
            raise ConfigError(f"the model {name!r} was made by the program that serves it, and takes no other settings")

        def give(_others: Named) -> OnOffer:
            if name in self._given:
                message = f"the model {name!r} was made by the program that serves it, which alone can make it anew"
                raise ConfigError(message)
            self._given.add(name)
            return served

        policy = served.batcher.policy if isinstance(served, Served) else Policy()
        return Sheet(versions=(Blueprint(name, served.version, give, policy=policy),))
