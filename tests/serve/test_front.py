"""The front of a server as its settings say: limits, keys, encryption, and a warning where others can reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carpool.config.settings import load_settings
from carpool.errors import ConfigError
from carpool.serve.access import Access
from carpool.serve.front import Front, open_front, warning_of
from carpool.serve.http.limits import Limits

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a-key-of-sufficient-length"


def opened(**flags: Any) -> Front:
    """Open the front that some settings of `[http]` say."""
    settings = load_settings(None, flags={f"http.{key}": value for key, value in flags.items()}, environ={})
    return open_front(settings.http, max_body_bytes=settings.server.max_body_bytes)


def test_what_is_not_set_is_as_the_server_has_it() -> None:
    """So that the limits stand in one place."""
    front = opened()
    assert front.limits == Limits()
    assert (front.access.is_open, front.tls, front.scheme) == (True, None, "http")


def test_settings_are_limits() -> None:
    """Sizes and times as they are written for people."""
    limits = opened(max_connections=7, max_header="1KiB", idle_timeout="2s", compress_from=0).limits
    assert (limits.max_connections, limits.max_header_bytes, limits.idle_timeout_s) == (7, 1024, 2.0)
    assert limits.compress_from_bytes is None


def test_keys_are_read_from_their_file(tmp_path: Path) -> None:
    """And metrics need one, unless told otherwise."""
    file = tmp_path / "keys"
    file.write_text(f"{KEY} team\n")
    access = opened(api_keys=str(file)).access
    assert access.tenant_of({b"x-api-key": KEY.encode()}, "metrics") == "team"
    assert opened(api_keys=str(file), keyless=["metrics"]).access.tenant_of({}, "metrics") == ""


def test_a_key_without_its_certificate_is_told() -> None:
    """Nothing would be encrypted."""
    with pytest.raises(ConfigError, match=r"http.tls_key is k.pem, and there is no http.tls_certificate: give both"):
        opened(tls_key="k.pem")


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("127.0.0.1", {}, None),
        ("::1", {}, None),
        ("localhost", {}, None),
        ("0.0.0.0", {}, "without an API key"),  # noqa: S104 - only looked at
        ("::", {}, "without an API key"),
        ("example.org", {}, "without an API key"),
        ("0.0.0.0", {KEY: ""}, "keys travel unencrypted"),  # noqa: S104
    ],
)
def test_who_can_be_reached_by_others_is_warned(host: str, keys: dict[str, str], warned: str | None) -> None:
    """Once, at the start."""
    warning = warning_of(host, Front(limits=Limits(), access=Access(keys)))
    assert (warning is None) if warned is None else (warned in (warning or ""))


def test_control_that_others_can_reach_without_a_key_is_warned_of() -> None:
    """It is more than asking."""
    warning = warning_of("example.org", Front(limits=Limits(), access=Access()), has_control=True)
    assert "anybody may ask, and load, unload and change models (--control)" in (warning or "")
