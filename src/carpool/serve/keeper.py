"""Brings models onto the shelf and takes them off, on threads, without dropping a request."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from carpool.errors import CarpoolError
from carpool.models.blame import text_of
from carpool.serve.rollout import Rollout
from carpool.serve.served import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from carpool.serve.on_offer import OnOffer
    from carpool.serve.shelf import Shelf
    from carpool.serve.source import Blueprint, Named, Sheet
    from carpool.signals.events import Sink

    SinksOf = Callable[[str], Iterable[Sink]]

_GRACE_S = 0.1  # whoever was given a model in this turn of the loop has handed over its rows by then
_logger = logging.getLogger("carpool.serve")


def asked_by(who: str) -> str:
    """Return what the log adds to a change that somebody asked for.

    >>> asked_by("team-a"), asked_by("")
    (', as team-a asked', '')
    """
    return f", as {who} asked" if who else ""


class Keeper:
    """Loads, swaps and retires models.

    One thread at a time calls it; it uses more of its own.

    Args:
        shelf: where models are put.
        others: finds models for those that are made of others.
        num_loading: models that load at a time.
        drain_timeout_s: how long a model that is taken out may take to finish what it accepted.
        sinks_of: says who is to be told of the events of a model.
    """

    def __init__(
        self, shelf: Shelf, others: Named, *, num_loading: int, drain_timeout_s: float, sinks_of: SinksOf
    ) -> None:
        self.rollouts: dict[tuple[str, str], Rollout] = {}
        self._shelf = shelf
        self._others = others
        self._num_loading = num_loading
        self._drain_timeout_s = drain_timeout_s
        self._sinks_of = sinks_of
        self._retiring: list[threading.Thread] = []
        self._refused: dict[tuple[str, str], object] = {}  # the state of the files that could not be loaded
        self._logged: dict[tuple[str, str], str] = {}  # what is wrong is told once
        self._is_closed = False

    def bring_up(
        self, sheets: Mapping[str, Sheet], *, retry: bool = True, who: str = ""
    ) -> dict[str, CarpoolError | None]:
        """Bring models up to what is told of them; what is so already is left alone.

        Args:
            sheets: what is told, by name.
            retry: whether to load again what could not be loaded, although it has not changed.
            who: who asks for it; empty where the files were looked through.

        Returns:
            By name what went wrong first; what served before serves on there.
        """
        errors = {name: self._check(name, sheet) for name, sheet in sheets.items()}
        told = [blueprint for sheet in sheets.values() for blueprint in sheet.versions]
        todo = []
        for blueprint in told:
            if self._shelf.is_current(blueprint):
                errors[blueprint.name] = errors[blueprint.name] or self._retell(blueprint, who)
            elif retry or self._refused.get((blueprint.name, blueprint.version)) != blueprint.files:
                self._shelf.announce(blueprint)
                todo.append(blueprint)
        # What is made of others comes after them.
        for stage in ([one for one in todo if not one.steps], [one for one in todo if one.steps]):
            for blueprint, error in zip(stage, self._load_all(stage, who), strict=True):
                errors[blueprint.name] = errors[blueprint.name] or error
        for name, sheet in sheets.items():
            unwanted = set(self._shelf.versions(name)) - {one.version for one in sheet.versions}
            for version in unwanted if sheet.error is None else ():
                self.take_out(name, version)
                _logger.info(
                    "model %s, version %s: removed, as it is not told any more%s", name, version, asked_by(who)
                )
        return errors

    def _check(self, name: str, sheet: Sheet) -> CarpoolError | None:
        """Take note of what is wrong with what is told of a model as a whole."""
        if sheet.error is None:
            self._mended(name, "")
        else:
            self._failed(name, "", sheet.error)
        return sheet.error

    def _retell(self, blueprint: Blueprint, who: str) -> CarpoolError | None:
        """Put the policy of a file in force where that alone may have changed."""
        rollout = self.rollouts.get((blueprint.name, blueprint.version))
        try:
            if rollout is not None:
                rollout.told(blueprint.policy, blueprint.objectives_s, who=who)
        except CarpoolError as error:
            self._failed(blueprint.name, blueprint.version, error)
            return error
        self._mended(blueprint.name, blueprint.version)
        return None

    def _load_all(self, blueprints: list[Blueprint], who: str) -> list[CarpoolError | None]:
        """Load several at a time, on threads that the end of the process does not wait for."""
        errors: list[CarpoolError | None] = [None] * len(blueprints)
        todo = iter(list(enumerate(blueprints)))  # a list's iterator may be shared by threads

        def work() -> None:
            for index, blueprint in todo:
                errors[index] = self._load(blueprint, who)

        num_more = min(self._num_loading, len(blueprints)) - 1
        others = [threading.Thread(target=work, name="carpool-load", daemon=True) for _ in range(num_more)]
        for thread in others:
            thread.start()
        work()
        for thread in others:
            thread.join()
        return errors

    def _load(self, blueprint: Blueprint, who: str) -> CarpoolError | None:
        """Load one version, and put it in the place of the one that serves; return what went wrong."""
        name, version = blueprint.name, blueprint.version
        started_at = time.monotonic()
        try:
            served = blueprint.build(self._others)
            self._shelf.begin(name, version, served)
            served.start()
            self._equip(blueprint, served, who)
        except CarpoolError as error:
            self._refused[name, version] = blueprint.files
            self._failed(name, version, error)
            return error
        self._mended(name, version)
        old = self._shelf.put(blueprint, served)
        if old is not None and old is not served:
            self._retire(old)
        took_s = time.monotonic() - started_at
        _logger.info("model %s, version %s: ready after %.1f s%s", name, version, took_s, asked_by(who))
        if self._is_closed:
            served.close(0.0)
        return None

    def _equip(self, blueprint: Blueprint, served: OnOffer, who: str) -> None:
        """Let a model that was loaded be heard, and go by the policy that has been put in force meanwhile."""
        key = (blueprint.name, blueprint.version)
        # Each step of a pipeline has a policy of its own, and a language model forms no batches.
        if blueprint.steps or not isinstance(served, Served):
            return
        for sink in self._sinks_of(served.name):
            served.batcher.sinks.add(sink)
        rollout = self.rollouts.get(key)
        if rollout is None:
            self.rollouts[key] = Rollout(
                blueprint.name,
                served.batcher,
                blueprint.policy,
                objectives_s=blueprint.objectives_s,
                who=who or "start",
            )
        else:
            rollout.moved(served.batcher)
            rollout.told(blueprint.policy, blueprint.objectives_s, who=who)

    def rollout_of(self, served: Served) -> Rollout:
        """Return the policies of a model that runs, which may have been started elsewhere."""
        key = (served.name, served.version)
        if key not in self.rollouts:
            self.rollouts[key] = Rollout(served.name, served.batcher, served.batcher.policy)
        return self.rollouts[key]

    def _failed(self, name: str, version: str, error: CarpoolError) -> None:
        if self._is_closed:  # it was stopped while it loaded
            return
        said = text_of(error)
        self._shelf.fail(name, version, said)
        if self._logged.get((name, version)) != said:
            self._logged[name, version] = said
            _logger.error("model %s%s: %s", name, f", version {version}" if version else "", said)

    def _mended(self, name: str, version: str) -> None:
        """Take note that nothing is wrong with a version, or, without one, with what is told of a model."""
        self._shelf.mended(name, version)
        self._refused.pop((name, version), None)
        self._logged.pop((name, version), None)

    def take_out(self, name: str, version: str) -> None:
        """Let a version take no more requests, and finish what it has accepted aside."""
        rollout = self.rollouts.pop((name, version), None)
        if rollout is not None:
            rollout.close()
        served = self._shelf.take(name, version)
        if served is not None:
            self._retire(served, version)

    def _retire(self, served: OnOffer, version: str | None = None) -> None:
        """Let a model finish what it has accepted, aside.

        Args:
            served: on offer no longer.
            version: which one it was, where no other takes its place.
        """

        def retire() -> None:
            time.sleep(_GRACE_S)
            while served.num_admitting and not self._is_closed:
                time.sleep(_GRACE_S)
            served.close(self._drain_timeout_s)
            if version is not None:
                self._shelf.drained(served.name, version)

        self._retiring = [thread for thread in self._retiring if thread.is_alive()]
        thread = threading.Thread(target=retire, name="carpool-retire", daemon=True)
        thread.start()
        self._retiring.append(thread)  # whoever closes meanwhile joins those that are here, and they must have begun

    def close(self, timeout_s: float) -> None:
        """Finish what was accepted, for so long, and let all models go; loading that goes on is not waited for."""
        self._is_closed = True
        for rollout in self.rollouts.values():
            rollout.close()
        threads = [
            threading.Thread(target=served.close, args=(timeout_s,), name="carpool-close", daemon=True)
            for served in self._shelf.all()
        ]
        for thread in threads:
            thread.start()
        give_up_at = time.monotonic() + timeout_s + _GRACE_S
        for thread in [*threads, *self._retiring]:
            thread.join(max(0.0, give_up_at - time.monotonic()))
