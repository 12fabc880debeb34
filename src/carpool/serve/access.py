"""Who may ask, and whose share of the capacity it uses: API keys and tenants."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from carpool.config.names import is_tenant
from carpool.errors import ConfigError
from carpool.serve.faults import UNAUTHORIZED, Fault, bad_request

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

MIN_KEY_LENGTH = 16
_KEY = re.compile(r"[\x21-\x7e]+")

CONTROL = "control"
_MOST_WORDS = 3  # a key, a tenant, and what marks it


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose a key is, and what for.

    Args:
        tenant: whose share of the capacity it uses.
        controls: whether it may change models and policies, where the server lets that be done at all.
    """

    tenant: str
    controls: bool = False


Keys: TypeAlias = "dict[bytes, tuple[bytes, Holder]]"


class Access:
    """Lets in those who hold a key, and says whose tenant they are.

    Keys are kept as SHA-256 digests, and compared in constant time.

    Args:
        keys: holders by key, or their tenants, who then control nothing; none lets everybody in, who then may name a
            tenant by X-Tenant.
        keyless: audiences that need no key, such as `health`.

    >>> access = Access({"a-key-of-16-chars": "team-a"})
    >>> access.tenant_of({b"authorization": b"Bearer a-key-of-16-chars"}, "clients")
    'team-a'
    """

    def __init__(
        self, keys: Mapping[str, Holder | str] | None = None, *, keyless: Collection[str] = ("health",)
    ) -> None:
        self._holders: Keys = {}
        for key, holder in (keys or {}).items():
            digest = sha256(key.encode()).digest()
            self._holders[digest[:8]] = (digest, holder if isinstance(holder, Holder) else Holder(holder))
        self._keyless = frozenset(keyless)

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return not self._holders

    def tenant_of(self, headers: Mapping[bytes, bytes], audience: str) -> str:
        """Return the tenant of a request; empty where it has none.

        Args:
            headers: by their names in lower case.
            audience: what the route is for.

        Raises:
            Fault: there is no key that is known, or the tenant's name can't be one.
        """
        if not self._holders:
            given = headers.get(b"x-tenant")
            return _sane_tenant(given) if given else ""
        if audience in self._keyless:
            return ""
        key = _presented_key(headers)
        holder = self._holder(key)
        if holder is not None:
            return holder.tenant
        what = "the API key is not one of ours" if key else "there is no API key"
        raise Fault(
            UNAUTHORIZED, f"{what}: send `Authorization: Bearer KEY`, or `X-API-Key: KEY`", code="invalid_api_key"
        )

    def may_control(self, headers: Mapping[bytes, bytes]) -> bool:
        """Tell whether a request may change models and policies: with a key that is marked for it, or without keys.

        Args:
            headers: by their names in lower case.
        """
        holder = self._holder(_presented_key(headers))
        return self.is_open or (holder is not None and holder.controls)

    def _holder(self, key: bytes) -> Holder | None:
        digest = sha256(key).digest()
        known = self._holders.get(digest[:8])
        return known[1] if known is not None and hmac.compare_digest(known[0], digest) else None


def _presented_key(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return key.strip()
    return headers.get(b"x-api-key", b"").strip()


def _sane_tenant(given: bytes) -> str:
    tenant = given.decode("latin-1")
    if not is_tenant(tenant):
        raise bad_request(f"X-Tenant is {tenant[:64]!r}: give 1 to 64 printable characters without spaces")
    return tenant


def read_keys(path: Path) -> dict[str, Holder]:
    """Read API keys from a file: on each line a key, the tenant whose it is, and `control` where it may change things.

    Empty lines, and lines that begin with #, are passed over. A key without a tenant is its own holder's alone: all
    such share the tenant with the empty name.

    Args:
        path: the file.

    Raises:
        ConfigError: it can't be read, or a line is none of these; no key is ever shown.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise ConfigError(f"the API keys can't be read from {path} ({reason}): name a file that can be") from None
    return parse_keys(text.splitlines(), source=str(path))


def parse_keys(lines: Collection[str], *, source: str) -> dict[str, Holder]:
    """Read API keys from lines, as `read_keys` does.

    Args:
        lines: a key each, a tenant after a space, and `control` after another.
        source: where they are from, for messages.

    Raises:
        ConfigError: a line is none of these, a key is too short to be safe, or there is no key.
    """
    keys: dict[str, Holder] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{source}, line {number}"
        if len(words) > _MOST_WORDS or words[2:] not in ([], [CONTROL]) or not _KEY.fullmatch(words[0]):
            raise ConfigError(
                f"{where}: it must hold a key of printable characters, and after a space its tenant, and after another "
                f"`{CONTROL}` where it may change models and policies"
            )
        if len(words[0]) < MIN_KEY_LENGTH:
            remedy = "make one by `openssl rand -hex 24`"
            raise ConfigError(
                f"{where}: the key has {len(words[0])} characters, of {MIN_KEY_LENGTH} at least: {remedy}"
            )
        if words[0] in keys:
            raise ConfigError(f"{where}: the key stands there twice: leave one out")
        tenant = words[1] if len(words) > 1 else ""
        if tenant == CONTROL:
            raise ConfigError(f"{where}: no tenant may be called {CONTROL!r}: write `KEY TENANT {CONTROL}`")
        if tenant and not is_tenant(tenant):
            raise ConfigError(f"{where}: the tenant {tenant[:64]!r} is none: give 1 to 64 printable characters")
        keys[words[0]] = Holder(tenant, controls=len(words) == _MOST_WORDS)
    if not keys:
        raise ConfigError(f"{source} holds no API key: give one a line, or leave the setting out")
    return keys
