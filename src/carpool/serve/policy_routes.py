"""The paths of policies: what forms a model's batches, what did before, and changing it while requests come."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.config.policy_keys import policy_table
from carpool.errors import ConfigError
from carpool.serve.faults import BAD_REQUEST, FORBIDDEN, NOT_FOUND, UNAVAILABLE, bad_request
from carpool.serve.http.exchange import Exchange, Reply
from carpool.serve.http.routing import Route
from carpool.serve.oip import decode_json
from carpool.serve.oip_routes import write_error
from carpool.serve.operation import Operation
from carpool.units import parse_duration_s

if TYPE_CHECKING:
    from carpool.serve.control import Control
    from carpool.serve.offer import Offer
    from carpool.serve.rollout import PolicyVersion, Rollout

GROUP = "Policies"


class PolicyChange(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A change of a model's policy: some keys, or an earlier version to go back to.

    Args:
        policy: values by key of `[policy]`, and `tenants`, as a carpool.toml would have them.
        version: an earlier version to put in force again, instead of keys.
        share: of the time that the new policy is in force while it is tried, from 0.01 to 0.5; 1: at once, untried.
        watch: how long it is tried, such as "60s"; up to a week.
    """

    policy: dict[str, Any] = msgspec.field(default_factory=dict)
    version: int | None = None
    share: float = 1.0
    watch: str | float = "60s"


class Figure(msgspec.Struct):
    """A measure of a trial: its median under the old policy and under the new one; None where nobody was answered."""

    old: float | None
    new: float | None


class VersionOfPolicy(msgspec.Struct):
    """One version of a policy.

    Args:
        number: counts up from 1.
        at: when it was asked for.
        who: who asked for it.
        changes: the keys that were changed, as they were written.
        policy: the whole of it, by key of `[policy]`.
        share: of the time that it was in force on trial; 1 where it was put in force at once.
        standing: `in force`, `on trial`, `replaced` or `rolled back`.
        result: how that came.
        figures: of a trial, by measure.
    """

    number: int
    at: str
    who: str
    changes: dict[str, Any]
    policy: dict[str, Any]
    share: float
    standing: str
    result: str
    figures: dict[str, Figure]


class Policies(msgspec.Struct):
    """The policies of a model.

    Args:
        model: its name.
        in_force: the version in force.
        on_trial: the version on trial; None where none is.
        history: the latest versions, the first before the last.
        token_cap: most tokens in a batch under the policy in force: its `token_budget`, or, where it has none, what a
            model that packs its batches is best run with; None: no limit.
    """

    model: str
    in_force: VersionOfPolicy
    on_trial: VersionOfPolicy | None
    history: list[VersionOfPolicy]
    token_cap: int | None


_decode = msgspec.json.Decoder(PolicyChange).decode
_encode = msgspec.json.Encoder().encode


def policy_operations(offer: Offer, control: Control) -> list[Operation]:
    """Return the operations.

    Args:
        offer: the models.
        control: says who may change them.
    """

    def rollout(exchange: Exchange) -> Rollout:
        return offer.rollout(exchange.params["model"], exchange.params.get("version", ""))

    def show(exchange: Exchange) -> Reply:
        return _written(rollout(exchange))

    def change(exchange: Exchange) -> Reply:
        control.check(dict(exchange.headers()))
        found = rollout(exchange)
        asked: PolicyChange = decode_json(_decode, exchange.body)
        try:
            _apply(found, asked, exchange.who)
        except ConfigError as error:
            raise bad_request(str(error)) from error
        return _written(found)

    paths = ("/v2/models/{model}/policy", "/v2/models/{model}/versions/{version}/policy")
    return [
        operation
        for path in paths
        for operation in (
            Operation(
                route=Route("GET", path, show, write_error),
                summary="How a model's batches are formed, and how they were before.",
                group=GROUP,
                answer=Policies,
                statuses=(BAD_REQUEST, NOT_FOUND, UNAVAILABLE),
            ),
            Operation(
                route=Route("PATCH", path, change, write_error),
                summary="Change how a model's batches are formed, at once or on trial for a share of the time.",
                group=GROUP,
                answer=Policies,
                request=PolicyChange,
                statuses=(BAD_REQUEST, FORBIDDEN, NOT_FOUND, UNAVAILABLE),
            ),
        )
    ]


def _apply(rollout: Rollout, asked: PolicyChange, who: str) -> None:
    if (asked.version is None) == (not asked.policy):
        raise ConfigError("the body must have either `policy`, with the keys to change, or `version`, to go back to")
    if asked.version is not None:
        rollout.go_back(asked.version, who=who)
    else:
        rollout.change(asked.policy, share=asked.share, watch_s=parse_duration_s(asked.watch), who=who)


def _written(rollout: Rollout) -> Reply:
    on_trial = rollout.on_trial
    told = Policies(
        model=rollout.name,
        in_force=_version(rollout.in_force),
        on_trial=None if on_trial is None else _version(on_trial),
        history=[_version(version) for version in rollout.history],
        token_cap=rollout.token_cap,
    )
    return Reply(_encode(told))


def _version(version: PolicyVersion) -> VersionOfPolicy:
    return VersionOfPolicy(
        number=version.number,
        at=datetime.fromtimestamp(version.at, UTC).isoformat(timespec="seconds"),
        who=version.who,
        changes=dict(version.changes),
        policy=policy_table(version.policy, whole=True),
        share=version.share,
        standing=version.standing,
        result=version.result,
        figures={name: Figure(_known(old), _known(new)) for name, (old, new) in version.figures.items()},
    )


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
