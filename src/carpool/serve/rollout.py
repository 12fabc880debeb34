"""The policies of a model on offer: the one in force, those before it, and one on trial that rolls itself back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from carpool.config.policy_keys import change_policy
from carpool.core.policy import Policy
from carpool.errors import BatcherClosed, ConfigError
from carpool.runtime.clock import SystemClock
from carpool.runtime.fit_policy import fit_policy
from carpool.serve.ear import Ear
from carpool.serve.switchback import LEAST_SHARE, MOST_SHARE, Decision, Switchback, Trial, Verdict, slice_length_s
from carpool.signals.export import PolicyCount

if TYPE_CHECKING:
    from carpool.runtime.batcher import Batcher

Standing: TypeAlias = Literal["in force", "on trial", "replaced", "rolled back"]
_MOST_REMEMBERED = 100
_LEAST_WATCH_S, _MOST_WATCH_S = 1.0, 7 * 24 * 3600.0
_logger = logging.getLogger("carpool.serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One version of a model's policy.

    Args:
        number: counts up from 1, which is what the model was told to begin with.
        at: when it was asked for, in seconds since 1970.
        who: who asked for it.
        changes: the keys that were changed, as they were written; empty where a whole policy was told.
        policy: the whole of it.
        share: of the time that it was in force while on trial; 1 where it was put in force at once.
        standing: what has become of it.
        result: how that came, in words.
        figures: of a trial, the median of each measure under the old and under the new policy.
    """

    number: int
    at: float
    who: str
    changes: Mapping[str, Any]
    policy: Policy
    share: float
    standing: Standing
    result: str
    figures: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a trial needs of the world, so that a test can be one.

    Args:
        now: the clock of the batcher's events.
        today: seconds since 1970.
        sleep: waits.
        draw: tells by lot whether the new policy comes first in a pair.
    """

    now: Callable[[], float] = SystemClock.now
    today: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], bool] = lambda: bool(secrets.randbits(1))


class Rollout:
    """The policies of one version of one model.

    Changes are asked for on the event loop; `moved`, `told` and `close` may be called from any thread.

    Args:
        name: what the log calls the model.
        batcher: whose policy it is; it runs.
        policy: what it was told to begin with.
        objectives_s: promised latency in seconds by percentile; a trial goes by them.
        who: who had the model loaded.
        world: clocks and chance.
    """

    def __init__(
        self,
        name: str,
        batcher: Batcher,
        policy: Policy,
        *,
        objectives_s: Mapping[str, float] | None = None,
        who: str = "start",
        world: Surroundings | None = None,
    ) -> None:
        self.name = name
        self.objectives_s: Mapping[str, float] = objectives_s or {}
        self._batcher = batcher
        self._world = world or Surroundings()
        self._told = policy
        self._num_in_force, self._num_rolled_back = 1, 0
        self._history: list[PolicyVersion] = []
        self._in_force = self._new_version(policy, {}, who, share=1.0)
        self._trial: asyncio.Task[None] | None = None
        self._interruption = ""

    # --------------------------------------------------------------------------------------------- reading

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._in_force.policy

    @property
    def in_force(self) -> PolicyVersion:
        """The version in force; while another one is on trial it is so for the rest of the time."""
        return self._history[self._place(self._in_force.number)]

    @property
    def on_trial(self) -> PolicyVersion | None:
        """The version on trial; None where none is."""
        return next((version for version in self._history if version.standing == "on trial"), None)

    @property
    def history(self) -> tuple[PolicyVersion, ...]:
        """The latest versions, the first before the last."""
        return tuple(self._history)

    @property
    def token_cap(self) -> int | None:
        """Most tokens in a batch under the policy in force, be it the model that says so; None where nothing does."""
        return fit_policy(self.policy, self._batcher.model).token_budget

    def count(self) -> PolicyCount:
        """Return what the metrics tell."""
        changes = {"in force": self._num_in_force - 1, "rolled back": self._num_rolled_back}
        return PolicyCount(version=self._in_force.number, on_trial=self.on_trial is not None, changes=changes)

    # -------------------------------------------------------------------------------------------- changing

    def change(
        self, changes: Mapping[str, Any], *, share: float = 1.0, watch_s: float = 60.0, who: str = ""
    ) -> PolicyVersion:
        """Change some keys of the policy in force; what waits is not dropped.

        A policy that is on trial is given up for it.

        Args:
            changes: values by key of `[policy]`, as a carpool.toml would have them.
            share: of the time that the new policy is in force while it is tried, up to a half; 1: at once, untried.
            watch_s: how long it is tried.
            who: who asks for it.

        Raises:
            ConfigError: a key or a value is wrong, or the share or the time.
        """
        _check(share, watch_s)
        policy = change_policy(self.policy, changes)
        return self._adopt(policy, changes, who=who, share=share, watch_s=watch_s)

    def go_back(self, number: int, *, who: str = "") -> PolicyVersion:
        """Put an earlier version in force again, as a new one.

        Raises:
            ConfigError: it is not remembered.
        """
        found = next((version for version in self._history if version.number == number), None)
        if found is None:
            first, last = self._history[0].number, self._history[-1].number
            raise ConfigError(f"version {number} is not remembered: there are {first} to {last}")
        return self._adopt(found.policy, {"version": number}, who=who, share=1.0)

    def _adopt(
        self, policy: Policy, changes: Mapping[str, Any], *, who: str, share: float, watch_s: float = 60.0
    ) -> PolicyVersion:
        old = self._batcher.policy
        self._batcher.set_policy(policy)  # which may refuse it
        self._give_up_trial("another change came")
        if share < 1:
            self._batcher.set_policy(old)
            return self._begin_trial(policy, changes, who, share, watch_s)
        version = self._new_version(policy, changes, who, share=share)
        self._put_in_force(version.number, "put in force at once")
        return self.in_force

    def moved(self, batcher: Batcher) -> None:
        """Go on with the batcher of a model that was loaded anew; a trial is given up."""
        if self.on_trial is not None:
            self._interruption = "the model was loaded anew"
        batcher.set_policy(self.policy)
        self._batcher = batcher

    def told(self, policy: Policy, objectives_s: Mapping[str, float], *, who: str = "") -> None:
        """Take note of what files tell by now; a policy that is another than they told before is put in force.

        A trial is given up for it.

        Args:
            policy: as it is told.
            objectives_s: promised latency in seconds by percentile.
            who: who had the model loaded; empty where the files were looked through.

        Raises:
            ConfigError: the policy can't be kept.
        """
        self.objectives_s = objectives_s
        if policy == self._told:
            return
        self._batcher.set_policy(policy)
        self._told = policy
        if self.on_trial is not None:
            self._interruption = f"{'a load' if who else 'a file'} tells another policy"
        version = self._new_version(policy, {}, who or "file", share=1.0)
        self._put_in_force(version.number, "told by a load" if who else "told by a file")

    def close(self) -> None:
        """Give up a trial: the model is taken out."""
        self._interruption = "the model was taken out"

    # ----------------------------------------------------------------------------------------------- trials

    def _begin_trial(
        self, policy: Policy, changes: Mapping[str, Any], who: str, share: float, watch_s: float
    ) -> PolicyVersion:
        world = self._world
        window = self._batcher.metrics.snapshot().window
        latency_s = window.latency.p95.value if window is not None and window.latency is not None else 0.0
        trial = Trial(
            began_at=world.now(),
            share=share,
            watch_s=watch_s,
            slice_s=slice_length_s(watch_s, share, latency_s),
            objectives_s=self.objectives_s,
        )
        version = self._new_version(policy, changes, who, share=share)
        result = f"on trial for {share:.0%} of the time, {trial.slice_s:.3g} s at a time, for {watch_s:.3g} s or more"
        self._note(version.number, "on trial", result)
        self._interruption = ""
        self._trial = asyncio.get_running_loop().create_task(self._try(version, Switchback(trial, world.draw)))
        return self._history[self._place(version.number)]

    async def _try(self, version: PolicyVersion, switchback: Switchback) -> None:
        """Let two policies take turns until it is clear what is to become of the new one."""
        ear, batcher = Ear(), self._batcher
        batcher.sinks.add(ear)
        try:
            verdict = await self._take_turns(version.policy, switchback, ear)
        except BatcherClosed:
            self._note(version.number, "rolled back", "the model was taken out")
            return
        finally:
            batcher.sinks.remove(ear)
            with contextlib.suppress(BatcherClosed):
                self._batcher.set_policy(self.policy)
        if verdict is None:
            self._note(version.number, "rolled back", f"given up, as {self._interruption}")
        elif verdict.decision is Decision.KEEP:
            self._put_in_force(version.number, f"kept: {verdict.sentence}", verdict)
        else:
            self._note(version.number, "rolled back", verdict.sentence, verdict)

    async def _take_turns(self, policy: Policy, switchback: Switchback, ear: Ear) -> Verdict | None:
        """Return the verdict; None where the trial was interrupted."""
        world = self._world
        while not self._interruption:
            now = world.now()
            self._batcher.set_policy(policy if switchback.is_new_at(now) else self.policy)
            await world.sleep(switchback.next_at(now) - now)
            verdict = switchback.judge(ear.seen(switchback), world.now())
            if verdict.decision is not Decision.UNDECIDED:
                return verdict
        return None

    def _give_up_trial(self, why: str) -> None:
        trial, self._trial = self._trial, None
        version = self.on_trial
        if trial is not None and version is not None:
            trial.cancel()
            self._note(version.number, "rolled back", f"given up, as {why}")

    # ---------------------------------------------------------------------------------------------- history

    def _new_version(self, policy: Policy, changes: Mapping[str, Any], who: str, *, share: float) -> PolicyVersion:
        number = self._history[-1].number + 1 if self._history else 1
        version = PolicyVersion(
            number=number,
            at=self._world.today(),
            who=who,
            changes=dict(changes),
            policy=policy,
            share=share,
            standing="in force",
            result="what it was told to begin with",
        )
        self._history.append(version)
        if len(self._history) > _MOST_REMEMBERED:
            in_force = self._in_force.number
            self._history.remove(next(one for one in self._history if one.number != in_force))
        return version

    def _put_in_force(self, number: int, result: str, verdict: Verdict | None = None) -> None:
        self._note(self._in_force.number, "replaced", f"replaced by version {number}")
        self._note(number, "in force", result, verdict)
        self._in_force = self._history[self._place(number)]
        self._batcher.set_policy(self.policy)

    def _note(self, number: int, standing: Standing, result: str, verdict: Verdict | None = None) -> None:
        place = self._place(number)
        figures = verdict.figures if verdict is not None else {}
        version = replace(self._history[place], standing=standing, result=result, figures=figures)
        self._history[place] = version
        self._num_in_force += standing == "in force"
        self._num_rolled_back += standing == "rolled back"
        level = logging.WARNING if standing == "rolled back" else logging.INFO
        by = f" by {version.who}" if version.who else ""
        said = result if result.startswith(standing) else f"{standing}, {result}"
        _logger.log(level, "model %s: policy version %d%s: %s", self.name, number, by, said)

    def _place(self, number: int) -> int:
        return next(place for place, version in enumerate(self._history) if version.number == number)


def _check(share: float, watch_s: float) -> None:
    if not (LEAST_SHARE <= share <= MOST_SHARE or share == 1):
        raise ConfigError(
            f"share is {share!r}; it must be from {LEAST_SHARE} to {MOST_SHARE}, as what is tried is compared with as "
            "much of what is in force, or 1 to put the policy in force at once"
        )
    if not _LEAST_WATCH_S <= watch_s <= _MOST_WATCH_S:
        raise ConfigError(f"watch is {watch_s!r} s; it must be at least {_LEAST_WATCH_S:g} s, and at most a week")
