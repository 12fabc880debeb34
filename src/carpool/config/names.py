"""What clients may call models and tenants, and what weights tenants may have."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_TENANT = re.compile(r"[\x21-\x7e]{1,64}")


def is_tenant(name: str) -> bool:
    """Tell whether the header `X-Tenant` can carry a name.

    >>> is_tenant("team-a"), is_tenant("team a")
    (True, False)
    """
    return _TENANT.fullmatch(name) is not None


def printable(name: str) -> str:
    """Return a name that can be shown.

    Raises:
        ConfigError: a character of it can't be.
    """
    if not name.isprintable():
        raise ConfigError(f"{name!r} holds what can't be printed; it must be printable characters")
    return name


def tenant_shares(shares: Mapping[str, float]) -> Mapping[str, float]:
    """Return the shares of tenants, of which the one with the empty name is all those without.

    Raises:
        ConfigError: a name is none that a client can give, or a share is none.
    """
    for tenant, share in shares.items():
        if tenant and not is_tenant(tenant):
            raise ConfigError(f"{tenant!r} is no name of a tenant; it must be 1 to 64 printable characters, no spaces")
        if not 0 < share < float("inf"):
            raise ConfigError(f"the share of {tenant!r} is {share!r}; it must be above 0 and finite")
    return shares
