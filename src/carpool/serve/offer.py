"""The models on offer: their names, versions and states, and how they come and go without dropping a request."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError
from carpool.models.blame import text_of
from carpool.serve.faults import BAD_REQUEST, NOT_FOUND, UNAVAILABLE, Fault
from carpool.serve.keeper import Keeper, asked_by
from carpool.serve.llm.served import ServedLM
from carpool.serve.pipeline import Pipeline
from carpool.serve.served import Served
from carpool.serve.shelf import ModelState, Shelf
from carpool.serve.source import Fixed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.config.settings import ServeSettings
    from carpool.runtime.batcher import Batcher
    from carpool.serve.keeper import SinksOf
    from carpool.serve.on_offer import OnOffer
    from carpool.serve.rollout import PolicyVersion, Rollout
    from carpool.serve.source import Sheet, Source
    from carpool.signals.export import PolicyCount

__all__ = ["ModelState", "NothingToServe", "Offer"]

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
        sinks_of: says who is to be told of the events of a model, by its name; None: nobody.
    """

    def __init__(
        self,
        source: Source,
        *,
        num_loading: int = 4,
        strict: bool = False,
        drain_timeout_s: float = 30.0,
        sinks_of: SinksOf | None = None,
    ) -> None:
        self._source = source
        self._strict = strict
        self._shelf = Shelf()
        self._keeper = Keeper(
            self._shelf,
            self,
            num_loading=num_loading,
            drain_timeout_s=drain_timeout_s,
            sinks_of=sinks_of or (lambda _name: ()),
        )
        self._changing = threading.Lock()  # one load, unload or reload at a time
        for name, sheet in self._sheets().items():
            if sheet.error is not None:
                self._shelf.fail(name, "", str(sheet.error))
            for blueprint in sheet.versions:
                self._shelf.announce(blueprint)

    @classmethod
    def of(cls, *served: OnOffer) -> Offer:
        """Offer models that were made elsewhere, not yet started."""
        offer = cls(Fixed(*served), strict=True)
        for one in served:
            offer._shelf.begin(one.name, one.version, one)
        return offer

    # ------------------------------------------------------------------------------------------- for requests

    def find(self, name: str, version: str = "") -> OnOffer:
        """Return a model, whatever it does; where it still loads or has failed, its `check_ready` says so.

        Args:
            name: what clients call it.
            version: which one; empty for the highest that is ready.

        Raises:
            Fault: there is none (404), or it can't answer and never could (503).
        """
        found = self._shelf.find(name, version)
        if found is None:
            raise self._missing(name, version)
        return found

    def named(self, name: str, version: str = "") -> Served:
        """Return a model that answers in batches.

        Args:
            name: as for `find`.
            version: as for `find`.

        Raises:
            Fault: as `find`, or it is a language model (400).
        """
        found = self.find(name, version)
        if isinstance(found, Served):
            return found
        assert isinstance(found, ServedLM), "there is nothing else"
        raise found.no_batches()

    def generator(self, name: str) -> ServedLM:
        """Return a language model.

        Args:
            name: what clients call it.

        Raises:
            Fault: as `find`, or it is none (400).
        """
        found = self.find(name)
        if isinstance(found, ServedLM):
            return found
        have = ", ".join(sorted({one.name for one in self.generators().values()})) or "none"
        message = f"the model {name!r} does not generate text: ask it at /predict/{name}; of those that do there is"
        raise Fault(BAD_REQUEST, f"{message} {have}", param="model")

    def _missing(self, name: str, version: str) -> Fault:
        """Say why there is no such model, and what there is."""
        states = self._shelf.index(name)
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

    def all(self) -> tuple[OnOffer, ...]:
        """Return every version of every model that is made, ordered by name and version."""
        return self._shelf.all()

    def batched(self) -> tuple[Served, ...]:
        """Return those of them that answer in batches."""
        return tuple(one for one in self._shelf.all() if isinstance(one, Served))

    def generators(self) -> dict[tuple[str, str], ServedLM]:
        """Return every language model by its name and version."""
        return {(one.name, one.version): one for one in self._shelf.all() if isinstance(one, ServedLM)}

    def told_of(self, served: OnOffer) -> ServeSettings | None:
        """Return the settings that a model was made from; None where there are none."""
        blueprint = self._shelf.blueprint(served.name, served.version)
        return None if blueprint is None else blueprint.settings

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
            errors = self._keeper.bring_up(sheets)
        failed = [error for error in errors.values() if error is not None]
        if failed and (self._strict or len(failed) == len(errors)):
            if len(errors) == 1:
                raise failed[0]
            reasons = "; ".join(f"{name}: {text_of(error)}" for name, error in errors.items() if error is not None)
            raise NothingToServe(f"{len(failed)} of {len(errors)} models can't be loaded: {reasons}")

    def _sheets(self) -> dict[str, Sheet]:
        found = {name: self._source.sheet(name) for name in self._source.names()}
        return {name: sheet for name, sheet in found.items() if sheet is not None}

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let all models go; loading that goes on is not waited for."""
        self._keeper.close(timeout_s)

    # ------------------------------------------------------------------------------------ changes while serving

    async def load(self, name: str, config: Mapping[str, Any] | None = None, *, who: str = "") -> None:
        """Load a model, or bring one that is on offer up to its files; it answers without a break.

        The new one is loaded and warmed beside the old, then takes its place; the old one finishes what it has
        accepted. Where the load fails the old one serves on.

        Args:
            name: the model.
            config: tables and keys of a carpool.toml that win over the model's own until its next load.
            who: who asks for it.

        Raises:
            Fault: there is no such model, or it can't be loaded; the message says why.
        """
        await asyncio.to_thread(self._load, name, config, who)

    async def unload(self, name: str, *, who: str = "") -> None:
        """Take a model out: it takes no more requests, and finishes what it has accepted.

        Args:
            name: the model.
            who: who asks for it.

        Raises:
            Fault: there is no such model.
        """
        await asyncio.to_thread(self._unload, name, who)

    async def reload(self, *, retry: bool = True) -> None:
        """Bring everything up to its files: changed models are loaded anew, new ones too, and those gone taken out.

        What can't be loaded is logged and shown in the index; what served before serves on.

        Args:
            retry: whether to load again what could not be loaded, although it has not changed.
        """
        await asyncio.to_thread(self._reload, retry)

    # ------------------------------------------------------------------------------------------------ policies

    def rollout(self, name: str, version: str = "") -> Rollout:
        """Return the policies of a model that answers.

        Args:
            name: the model.
            version: which one; empty for the one in force.

        Raises:
            Fault: there is none, it does not answer, or it is a pipeline, whose steps have policies.
        """
        served = self.named(name, version)
        served.check_ready()
        if isinstance(served, Pipeline):
            raise Fault(BAD_REQUEST, f"{name!r} is a pipeline: its steps {', '.join(served.steps)} have policies")
        return self._keeper.rollout_of(served)

    def policy_counts(self) -> dict[tuple[str, str], PolicyCount]:
        """Return what became of the policies of every model, by name and version."""
        return {key: rollout.count() for key, rollout in sorted(self._keeper.rollouts.items())}

    def batchers(self) -> dict[tuple[str, str], Batcher]:
        """Return every batcher by its model's name and version: a pipeline has none but those of its steps."""
        runs = [served for served in self.batched() if not isinstance(served, Pipeline)]
        return {(served.name, served.version): served.batcher for served in runs}

    def pipelines(self) -> dict[tuple[str, str], Pipeline]:
        """Return every pipeline by its name and version."""
        return {(served.name, served.version): served for served in self.batched() if isinstance(served, Pipeline)}

    async def set_policy(
        self,
        name: str,
        changes: Mapping[str, Any],
        *,
        share: float = 1.0,
        watch_s: float = 60.0,
        who: str = "",
        version: str = "",
    ) -> PolicyVersion:
        """Change some keys of a model's policy, at once or on trial for a share of the time.

        Args:
            name: the model.
            changes: values by key of `[policy]`, as a carpool.toml would have them.
            share: of the time that the new policy is in force while it is tried, up to a half; 1: at once, untried.
            watch_s: how long it is tried.
            who: who asks for it.
            version: which version of the model; empty for the one in force.

        Raises:
            Fault: there is no such model, or it is a pipeline.
            ConfigError: a key or a value is wrong.
        """
        return self.rollout(name, version).change(changes, share=share, watch_s=watch_s, who=who)

    # ---------------------------------------------------------------------------------------- on other threads

    def _load(self, name: str, config: Mapping[str, Any] | None, who: str) -> None:
        with self._changing:
            try:
                sheet = self._source.sheet(name, config)
            except CarpoolError as error:
                raise Fault(BAD_REQUEST, f"the model {name!r} can't be loaded: {error}") from error
            if sheet is None:
                known = ", ".join(sorted(self._source.names()))
                raise Fault(NOT_FOUND, f"there is no model {name[:60]!r} to load: there are {known}")
            errors = self._keeper.bring_up({**self._own_steps(name, sheet, config), name: sheet}, who=who)
        wrong = next((error for error in errors.values() if error is not None), None)
        if wrong is not None:
            raise Fault(BAD_REQUEST, f"the model {name!r} can't be loaded: {wrong}") from wrong

    def _own_steps(self, name: str, sheet: Sheet, config: Mapping[str, Any] | None) -> dict[str, Sheet]:
        """Return what is told of the steps that are declared with a pipeline."""
        steps = {step for blueprint in sheet.versions for step in blueprint.steps if step.startswith(f"{name}.")}
        found = {step: self._source.sheet(step, config) for step in steps}
        return {step: told for step, told in found.items() if told is not None}

    def _unload(self, name: str, who: str) -> None:
        with self._changing:
            if not self._shelf.index(name):
                raise self._missing(name, "")
            for version in self._shelf.versions(name):
                self._keeper.take_out(name, version)
            self._shelf.set_aside(name)
        _logger.info("model %s: unloaded%s", name, asked_by(who))

    def _reload(self, retry: bool) -> None:  # noqa: FBT001 - private, one caller
        with self._changing:
            try:
                sheets = self._sheets()
            except CarpoolError as error:
                _logger.error("the models can't be looked through for changes: %s", error)  # noqa: TRY400 - as told
                return
            unloaded = {state.name for state in self._shelf.index() if state.is_unloaded}
            wanted = {name: sheet for name, sheet in sheets.items() if name not in unloaded}
            self._keeper.bring_up(wanted, retry=retry)
            for name in {state.name for state in self._shelf.index()} - set(sheets):
                for version in self._shelf.versions(name):
                    self._keeper.take_out(name, version)
                self._shelf.forget(name)
                _logger.info("model %s: removed, as its files are gone", name)
