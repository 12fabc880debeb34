"""The keys of `[policy]` and the core's `Policy`: one made from the other, and changed key by key."""

from __future__ import annotations

from dataclasses import fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carpool.config.keys import nearest
from carpool.config.layers import checked, given_by
from carpool.config.leaf import leaves_of
from carpool.config.tables import leaves
from carpool.core.policy import Policy
from carpool.errors import ConfigError
from carpool.units import parse_duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carpool.config.leaf import Leaf
    from carpool.config.tables import PolicyTable

TENANTS = "tenants"
# Policy's names that are written without their unit, because the value has it.
_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "max_wait_s": "max_wait",
        "patience_s": "patience",
        "ageing_s": "ageing",
        "memory_limit_bytes": "memory_limit",
        "tenant_weights": TENANTS,
    }
)
_NAMES: Mapping[str, str] = MappingProxyType({key: name for name, key in _KEYS.items()})
# The first has a table of its own, [objective]; the others are the model's.
_NOT_KEYS = frozenset({"objectives_s", "ragged", "token_buckets"})
_ALWAYS = frozenset({"max_batch_size", "max_wait_s"})


def build_policy(values: Mapping[str, Any], tenants: Mapping[str, float]) -> Policy:
    """Make a policy.

    Args:
        values: Of every key of `[policy]`, durations in seconds and sizes in bytes.
        tenants: Shares by name.

    Raises:
        ConfigError: Two values do not agree.
    """
    return Policy(**{_NAMES.get(key, key): value for key, value in values.items()}, tenant_weights=tenants)


def policy_of_table(table: PolicyTable, named: str, tenants: Mapping[str, float]) -> Policy:
    """Make a policy from a table that stands by itself.

    Args:
        table: As it was read.
        named: What errors call it.
        tenants: Shares by name.

    Raises:
        ConfigError: A value is wrong, or two do not agree.
    """
    values = {leaf.key: checked(leaf, given_by(named, leaf.key, leaf.default)) for leaf in leaves_of(table)}
    try:
        return build_policy(values, tenants)
    except ConfigError as error:
        raise ConfigError(f"{named}: {error}") from None


def change_policy(policy: Policy, changes: Mapping[str, Any], *, strict: bool = True) -> Policy:
    """Return a policy with some of its keys changed.

    Args:
        policy: The one that there is.
        changes: Values by key of `[policy]`, or the shares of `tenants`, as a `carpool.toml` would have them.
        strict: Whether text stands for nothing but text; False for what comes from a command line.

    Raises:
        ConfigError: There is no such key, a value is wrong, or two do not agree.

    >>> change_policy(Policy(), {"max_batch_size": 64, "max_wait": "2ms"}).max_wait_s
    0.002
    """
    known = _changeable()
    unknown = [key for key in changes if key not in known]
    if unknown:
        raise ConfigError(f"unknown key {unknown[0]!r}: {nearest(unknown[0], known)}")
    values = {}
    for key, value in changes.items():
        given = replace(given_by("policy", key, value), named=key, strict=strict)
        if not strict and isinstance(known[key].default, tuple):
            given = replace(given, value=[part for part in str(value).split(",") if part.strip()])
        values[_NAMES.get(key, key)] = checked(known[key], given)
    return replace(policy, **values)


def _changeable() -> dict[str, Leaf]:
    found = {leaf.key.removeprefix("policy."): leaf for leaf in leaves() if leaf.key.startswith("policy.")}
    return found | {TENANTS: next(leaf for leaf in leaves() if leaf.key == TENANTS)}


def policy_table(policy: Policy, *, whole: bool = False) -> dict[str, object]:
    """Return the keys of `[policy]`: what matters most, and whatever is not as by default.

    Args:
        policy: The policy.
        whole: Whether to return all keys, and the tenants' shares too.

    >>> policy_table(Policy(max_batch_size=16, max_wait_s=0.002, look_ahead=64))
    {'max_batch_size': 16, 'max_wait': '2ms', 'look_ahead': 64}
    """
    default, found = Policy(), {}
    for field in fields(Policy):
        value = getattr(policy, field.name)
        told = field.name in _ALWAYS or value != getattr(default, field.name)
        if field.name not in _NOT_KEYS and (whole or (told and field.name != "tenant_weights")):
            found[_KEYS.get(field.name, field.name)] = write_duration(value) if field.name.endswith("_s") else value
    return found


def write_duration(seconds: float) -> str | float:
    """Write a duration as people do where that is exact, else as seconds."""
    text = f"{seconds * 1e3:.6g}ms" if 0 < seconds < 1 else f"{seconds:.6g}s"
    return text if parse_duration_s(text) == seconds else seconds
