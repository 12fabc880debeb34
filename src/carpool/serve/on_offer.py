"""What is on offer, whatever it does: a model behind a batcher, a chain of them, or a language model."""

from __future__ import annotations

from typing import Protocol

from carpool.errors import ConfigError
from carpool.serve.faults import UNAVAILABLE, Fault

_LOADING_S = 1.0


class OnOffer(Protocol):
    """One version of one model, as whoever brings models up and takes them out sees it.

    Attributes:
        name: what clients call it.
        version: which one of that name it is.
        num_admitting: requests that are being read on a thread, and are not counted among what is accepted.
    """

    name: str
    version: str
    num_admitting: int

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""

    @property
    def failure(self) -> Exception | None:
        """What stopped it, or kept it from starting; None while all is well."""

    @property
    def trouble(self) -> str:
        """Why it can't answer now though it will; empty where that is not so."""

    def start(self) -> None:
        """Load it, and warm it up.

        Raises:
            CarpoolError: that can't be done.
        """

    def check_ready(self) -> None:
        """Refuse requests that can't be answered now.

        Raises:
            Fault: it is still loading, or has failed.
        """

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let it go."""


def require_name(name: str) -> str:
    """Return a model's name that can stand in a URL.

    Raises:
        ConfigError: it can't.
    """
    if not name or "/" in name:
        raise ConfigError(f"the model's name {name!r} can't stand in a URL: give one without / by --name")
    return name


def unready(name: str, failure: Exception | None) -> Fault:
    """Return why a model answers nothing: it has failed, or it still loads.

    Args:
        name: what clients call it.
        failure: what stopped it, or kept it from starting.
    """
    if failure is not None:
        return Fault(UNAVAILABLE, f"the model {name!r} has failed: {failure}")
    return Fault(UNAVAILABLE, f"the model {name!r} is loading: come back soon", retry_after_s=_LOADING_S)
