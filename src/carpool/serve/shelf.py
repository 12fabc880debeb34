"""Which version of which model is where on its way: what the event loop reads while threads load and take out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from carpool.serve.on_offer import OnOffer
    from carpool.serve.source import Blueprint

State: TypeAlias = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
_Key: TypeAlias = tuple[str, str]
UNLOADED = "unloaded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """The state of one version of one model.

    Args:
        name: what clients call the model.
        version: which one; empty where not even that can be told.
        state: where it is on its way.
        reason: why it is there; empty where all is well.
    """

    name: str
    version: str
    state: State
    reason: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.state == "READY"

    @property
    def is_unloaded(self) -> bool:
        """Whether somebody wanted it to be taken out."""
        return self.state == "UNLOADING" or (self.state == "UNAVAILABLE" and self.reason == UNLOADED)


class Shelf:
    """The models that are made, and the states of all that are known.

    Readers need no lock: what they read is replaced whole by one assignment.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._made: dict[_Key, OnOffer] = {}
        self._defaults: dict[str, OnOffer] = {}
        self._blueprints: dict[_Key, Blueprint] = {}  # of those that are made and were loaded
        self._states: dict[_Key, ModelState] = {}  # of those that are not made
        self._troubles: dict[_Key, str] = {}  # why what serves is not what was last asked for

    # --------------------------------------------------------------------------------------------- reading

    def find(self, name: str, version: str) -> OnOffer | None:
        """Return a version that is made; the default one where `version` is empty."""
        return self._made.get((name, version)) if version else self._defaults.get(name)

    def names(self) -> tuple[str, ...]:
        """Name the models of which a version is made."""
        return tuple(sorted(self._defaults))

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model that are made, rising."""
        return tuple(version for other, version in sorted(self._made, key=_order) if other == name)

    def all(self) -> tuple[OnOffer, ...]:
        """Return all that are made, in order."""
        made = self._made
        return tuple(made[key] for key in sorted(made, key=_order))

    def index(self, name: str | None = None) -> tuple[ModelState, ...]:
        """Return the state of all that are known, in order; of one model alone where it is named."""
        made, states = self._made, self._states
        keys = sorted((key for key in {*made, *states} if name in (None, key[0])), key=_order)
        return tuple(self._state_of(key, made[key]) if key in made else states[key] for key in keys)

    def _state_of(self, key: _Key, served: OnOffer) -> ModelState:
        name, version = key
        if served.ready:
            return ModelState(name=name, version=version, state="READY", reason=self._troubles.get(key, ""))
        if served.failure is not None:
            return ModelState(name=name, version=version, state="UNAVAILABLE", reason=str(served.failure))
        return ModelState(name=name, version=version, state="LOADING", reason=served.trouble)

    def is_current(self, blueprint: Blueprint) -> bool:
        """Whether what serves is what is told, file for file."""
        key = (blueprint.name, blueprint.version)
        served, known = self._made.get(key), self._blueprints.get(key)
        return served is not None and served.ready and known is not None and known.files == blueprint.files

    def blueprint(self, name: str, version: str) -> Blueprint | None:
        """Return what the version that serves was made from."""
        return self._blueprints.get((name, version))

    # -------------------------------------------------------------------------------------------- changing

    def announce(self, blueprint: Blueprint) -> None:
        """Take note that a version is about to be made."""
        with self._changing:
            self._say(blueprint.name, blueprint.version, "LOADING")

    def begin(self, name: str, version: str, served: OnOffer) -> None:
        """Take note that a version is made and begins to load; one that serves in its place stays there."""
        with self._changing:
            key = (name, version)
            current = self._made.get(key)
            if current is None or not current.ready:
                self._place(key, served)

    def put(self, blueprint: Blueprint, served: OnOffer) -> OnOffer | None:
        """Let a version that has loaded serve; return the one whose place it takes."""
        with self._changing:
            key = (blueprint.name, blueprint.version)
            old = self._made.get(key)
            self._blueprints[key] = blueprint
            self._troubles.pop(key, None)
            self._place(key, served)
            return old

    def fail(self, name: str, version: str, reason: str) -> None:
        """Take note that a version could not be made or loaded; one that serves in its place serves on.

        Args:
            name: the model.
            version: which one; empty where what is told of the model as a whole is wrong.
            reason: why.
        """
        with self._changing:
            places = [key for key in self._made if key[0] == name and version in ("", key[1]) and self._made[key].ready]
            for key in places:
                self._troubles[key] = f"the former one serves on, as the new one can't be loaded: {reason}"
            if not places:
                self._remove((name, version))
                self._say(name, version, "UNAVAILABLE", reason)

    def set_aside(self, name: str) -> None:
        """Take note that a model is not wanted, of which nothing is made any more."""
        with self._changing:
            for key, state in self._states.items():
                if key[0] == name and state.state != "UNLOADING":
                    self._say(*key, "UNAVAILABLE", UNLOADED)

    def take(self, name: str, version: str) -> OnOffer | None:
        """Take a version out, to be drained; return it."""
        with self._changing:
            served = self._made.get((name, version))
            self._remove((name, version))
            self._say(name, version, "UNLOADING")
            return served

    def drained(self, name: str, version: str) -> None:
        """Take note that a version that was taken out has finished."""
        with self._changing:
            state = self._states.get((name, version))
            if state is not None and state.state == "UNLOADING":
                self._say(name, version, "UNAVAILABLE", UNLOADED)

    def mended(self, name: str, version: str) -> None:
        """Take note that nothing is wrong with a version, or, without one, with what is told of a model."""
        with self._changing:
            self._troubles.pop((name, version), None)
            self._states = {key: state for key, state in self._states.items() if key != (name, version)}

    def forget(self, name: str) -> None:
        """Forget a model of which nothing is made."""
        with self._changing:
            self._states = {key: state for key, state in self._states.items() if key[0] != name}

    def _say(self, name: str, version: str, state: State, reason: str = "") -> None:
        said = ModelState(name=name, version=version, state=state, reason=reason)
        self._states = {**self._states, (name, version): said}

    def _place(self, key: _Key, served: OnOffer) -> None:
        self._made = {**self._made, key: served}
        self._choose_default(key[0])

    def _remove(self, key: _Key) -> None:
        self._made = {other: served for other, served in self._made.items() if other != key}
        self._blueprints.pop(key, None)
        self._troubles.pop(key, None)
        self._choose_default(key[0])

    def _choose_default(self, name: str) -> None:
        """Let the highest version that is ready be the default one, or the highest where none is."""
        versions = {int(version): served for (other, version), served in self._made.items() if other == name}
        others = {other: served for other, served in self._defaults.items() if other != name}
        best = max(versions, key=lambda version: (versions[version].ready, version), default=None)
        self._defaults = others if best is None else {**others, name: versions[best]}


def _order(key: _Key) -> tuple[str, int]:
    name, version = key
    return name, int(version or 0)
