"""The models on offer: their names, versions and states, and how they come and go without dropping a request."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError
from carpool.serve.faults import BAD_REQUEST, NOT_FOUND, UNAVAILABLE, Fault
from carpool.serve.shelf import ModelState, Shelf
from carpool.serve.source import Fixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.serve.served import Served
    from carpool.serve.source import Blueprint, Sheet, Source

__all__ = ["ModelState", "NothingToServe", "Offer"]

_GRACE_S = 0.1  # whoever was given a model in this turn of the loop has handed over its rows by then
_LOADING_S = 1.0
_logger = logging.getLogger("carpool.serve")


class NothingToServe(CarpoolError):
    """Not one model could be loaded, or not all where all must."""


class Offer:
    """The models on offer.

    `named` and the rest of what requests ask is for the event loop, and costs a look-up; `start`, `close` and the
    loading behind `load`, `unload` and `reload` run on threads of their own, and swap models by one assignment.

    Args:
        source: what is to be offered.
        num_loading: models that load at a time.
        strict: whether the server is not to start where one of the models can't be loaded.
        drain_timeout_s: how long a model that is taken out may take to finish what it accepted.
    """

    def __init__(
        self, source: Source, *, num_loading: int = 4, strict: bool = False, drain_timeout_s: float = 30.0
    ) -> None:
        self._source = source
        self._num_loading = num_loading
        self._strict = strict
        self._drain_timeout_s = drain_timeout_s
        self._shelf = Shelf()
        self._changing = threading.Lock()  # one load, unload or reload at a time
        self._retiring: list[threading.Thread] = []
        self._is_closed = False
        for name, sheet in self._sheets().items():
            if sheet.error is not None:
                self._shelf.fail(name, "", str(sheet.error))
            for blueprint in sheet.versions:
                self._shelf.announce(blueprint)

    @classmethod
    def of(cls, *served: Served) -> Offer:
        """Offer models that were made elsewhere, not yet started."""
        offer = cls(Fixed(*served), strict=True)
        for one in served:
            offer._shelf.begin(one.name, one.version, one)
        return offer

    # ------------------------------------------------------------------------------------------- for requests

    def named(self, name: str, version: str = "") -> Served:
        """Return a model; where it still loads or has failed, its `check_ready` says so.

        Args:
            name: what clients call it.
            version: which one; empty for the highest that is ready.

        Raises:
            Fault: there is none (404), or it can't answer and never could (503).
        """
        served = self._shelf.find(name, version)
        if served is None:
            raise self._missing(name, version)
        return served

    def _missing(self, name: str, version: str) -> Fault:
        """Say why there is no such model, and what there is."""
        states = [state for state in self._shelf.index() if state.name == name]
        if not states:
            known = ", ".join(self.names()) or "none"
            return Fault(NOT_FOUND, f"there is no model {name[:60]!r} here: use one of {known}", code="model_not_found")
        state = next((one for one in states if version in ("", one.version)), None)
        if state is None:
            have = ", ".join(one.version for one in states)
            return Fault(NOT_FOUND, f"the model {name!r} has no version {version[:60]!r}: it has {have}")
        if state.state == "LOADING":
            return Fault(UNAVAILABLE, f"the model {name!r} is loading: come back soon", retry_after_s=_LOADING_S)
        if state.is_unloaded:
            remedy = f"POST to /v2/repository/models/{name}/load to have it back"
            return Fault(NOT_FOUND, f"the model {name!r} is unloaded: {remedy}", code="model_not_found")
        return Fault(UNAVAILABLE, f"the model {name!r} has failed: {state.reason}")

    def names(self) -> tuple[str, ...]:
        """Name the models that answer or will, in order."""
        return self._shelf.names()

    def versions(self, name: str) -> tuple[str, ...]:
        """Return the versions of a model that answer or will, rising; none where there is no such model."""
        return self._shelf.versions(name)

    def all(self) -> tuple[Served, ...]:
        """Return every version of every model that is made, ordered by name and version."""
        return self._shelf.all()

    def index(self) -> tuple[ModelState, ...]:
        """Return the state of every version of every model that is known, ordered by name and version."""
        return self._shelf.index()

    @property
    def ready(self) -> bool:
        """Whether every model that should be on offer answers."""
        return all(state.is_ready or state.is_unloaded for state in self._shelf.index())

    # ------------------------------------------------------------------------------------------- start and end

    def start(self) -> None:
        """Load all that is to be offered, several at a time; one that fails does not stop the others.

        Raises:
            CarpoolError: the only model can't be loaded.
            NothingToServe: none of several can, or not all although `strict`.
        """
        with self._changing:
            sheets = self._sheets()
            errors = self._bring_up_all(sheets)
        failed = [error for error in errors.values() if error is not None]
        if failed and (self._strict or len(failed) == len(errors)):
            if len(errors) == 1:
                raise failed[0]
            reasons = "; ".join(f"{name}: {error}" for name, error in errors.items() if error is not None)
            raise NothingToServe(f"{len(failed)} of {len(errors)} models can't be loaded: {reasons}")

    def _sheets(self) -> dict[str, Sheet]:
        found = {name: self._source.sheet(name) for name in self._source.names()}
        return {name: sheet for name, sheet in found.items() if sheet is not None}

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let all models go; loading that goes on is not waited for."""
        self._is_closed = True
        served = self._shelf.all()
        closing = [threading.Thread(target=one.close, args=(timeout_s,), daemon=True) for one in served]
        for thread in closing:
            thread.start()
        give_up_at = time.monotonic() + timeout_s
        for thread in [*closing, *self._retiring]:
            thread.join(max(0.0, give_up_at - time.monotonic()) + _GRACE_S)

    # ------------------------------------------------------------------------------------ changes while serving

    async def load(self, name: str, config: Mapping[str, Any] | None = None) -> None:
        """Load a model, or bring one that is on offer up to its files; it answers without a break.

        The new one is loaded and warmed beside the old, then takes its place; the old one finishes what it has
        accepted. Where the load fails the old one serves on.

        Args:
            name: the model.
            config: tables and keys of a carpool.toml that win over the model's own until its next load.

        Raises:
            Fault: there is no such model, or it can't be loaded; the message says why.
        """
        await asyncio.to_thread(self._load, name, config)

    async def unload(self, name: str) -> None:
        """Take a model out: it takes no more requests, and finishes what it has accepted.

        Raises:
            Fault: there is no such model.
        """
        await asyncio.to_thread(self._unload, name)

    async def reload(self) -> None:
        """Bring everything up to its files: changed models are loaded anew, new ones too, and those gone taken out.

        What can't be loaded is logged and shown in the index; what served before serves on.
        """
        await asyncio.to_thread(self._reload)

    def _load(self, name: str, config: Mapping[str, Any] | None) -> None:
        with self._changing:
            try:
                sheet = self._source.sheet(name, config)
            except CarpoolError as error:
                raise Fault(BAD_REQUEST, f"the model {name!r} can't be loaded: {error}") from error
            if sheet is None:
                known = ", ".join(sorted(self._source.names()))
                raise Fault(NOT_FOUND, f"there is no model {name[:60]!r} to load: there are {known}")
            wrong = self._bring_up_all({name: sheet}, anew=config is not None)[name]
        if wrong is not None:
            raise Fault(BAD_REQUEST, f"the model {name!r} can't be loaded: {wrong}") from wrong

    def _unload(self, name: str) -> None:
        with self._changing:
            if not any(state.name == name for state in self._shelf.index()):
                raise self._missing(name, "")
            for version in self._shelf.versions(name):
                self._take_out(name, version)
            self._shelf.set_aside(name)
        _logger.info("model %s: unloaded", name)

    def _reload(self) -> None:
        with self._changing:
            sheets = self._sheets()
            unloaded = {state.name for state in self._shelf.index() if state.is_unloaded}
            self._bring_up_all({name: sheet for name, sheet in sheets.items() if name not in unloaded})
            for name in {state.name for state in self._shelf.index()} - set(sheets):
                for version in self._shelf.versions(name):
                    self._take_out(name, version)
                self._shelf.forget(name)

    # ------------------------------------------------------------------------------------------------- how

    def _bring_up_all(self, sheets: Mapping[str, Sheet], *, anew: bool = False) -> dict[str, CarpoolError | None]:
        """Bring models up to what is told of them; return by name what went wrong first.

        Args:
            sheets: by name.
            anew: whether to load what has not changed too.
        """
        errors: dict[str, CarpoolError | None] = {name: sheet.error for name, sheet in sheets.items()}
        for name, sheet in sheets.items():
            if sheet.error is not None:
                self._failed(name, "", sheet.error)
            else:
                self._shelf.forget_error(name, "")
        told = [blueprint for sheet in sheets.values() for blueprint in sheet.versions]
        todo = [one for one in told if anew or not self._shelf.is_current(one)]
        for blueprint in todo:
            self._shelf.announce(blueprint)
        # What is made of others comes after them.
        for stage in ([one for one in todo if not one.steps], [one for one in todo if one.steps]):
            for blueprint, error in zip(stage, self._on_threads(stage), strict=True):
                errors[blueprint.name] = errors[blueprint.name] or error
        for name, sheet in sheets.items():
            for version in set(self._shelf.versions(name)) - {one.version for one in sheet.versions}:
                if sheet.error is None:
                    self._take_out(name, version)
        return errors

    def _on_threads(self, blueprints: list[Blueprint]) -> list[CarpoolError | None]:
        """Bring several up at a time, on threads that the end of the process does not wait for."""
        errors: list[CarpoolError | None] = [None] * len(blueprints)
        todo = iter(list(enumerate(blueprints)))  # a list's iterator may be shared by threads

        def work() -> None:
            for index, blueprint in todo:
                errors[index] = self._bring_up(blueprint)

        num_more = min(self._num_loading, len(blueprints)) - 1
        others = [threading.Thread(target=work, name="carpool-load", daemon=True) for _ in range(num_more)]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()
        return errors

    def _bring_up(self, blueprint: Blueprint) -> CarpoolError | None:
        """Load one version, and put it in the place of the one that serves; return what went wrong."""
        name, version = blueprint.name, blueprint.version
        started_at = time.monotonic()
        try:
            served = blueprint.build(self)
            self._shelf.begin(name, version, served)
            served.start()
        except CarpoolError as error:
            self._failed(name, version, error)
            return error
        old = self._shelf.put(blueprint, served)
        if old is not None and old is not served:
            self._retire(old)
        _logger.info("model %s, version %s: ready after %.1f s", name, version, time.monotonic() - started_at)
        if self._is_closed:
            served.close(0.0)
        return None

    def _failed(self, name: str, version: str, error: CarpoolError) -> None:
        self._shelf.fail(name, version, str(error))
        _logger.error("model %s%s: %s", name, f", version {version}" if version else "", error)

    def _take_out(self, name: str, version: str) -> None:
        served = self._shelf.take(name, version)
        if served is not None:
            self._retire(served, version)

    def _retire(self, served: Served, version: str | None = None) -> None:
        """Let a model that is on offer no longer finish what it has accepted, aside."""

        def retire() -> None:
            time.sleep(_GRACE_S)
            while served.num_admitting and not self._is_closed:
                time.sleep(_GRACE_S)
            served.close(self._drain_timeout_s)
            if version is not None:
                self._shelf.drained(served.name, version)

        self._retiring = [thread for thread in self._retiring if thread.is_alive()]
        thread = threading.Thread(target=retire, name="carpool-retire", daemon=True)
        self._retiring.append(thread)
        thread.start()
