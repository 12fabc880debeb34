"""API keys: where they stand, what they must be, and that they are shown to nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.errors import ConfigError
from carpool.serve.access import Access, Holder, parse_keys, read_keys
from carpool.serve.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

ONE, TWO = "key-number-one-1111", "key-number-two-2222"


def test_keys_stand_in_a_file_with_their_tenants(tmp_path: Path) -> None:
    """One a line; comments and empty lines are passed over."""
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\n{ONE} team-a\n{TWO}\n")
    assert read_keys(file) == {ONE: Holder("team-a"), TWO: Holder("")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no API key: give one a line"),
        ("short", "line 1: the key has 5 characters, of 16 at least: make one by `openssl rand"),
        (f"{ONE} a b", "line 1: it must hold a key of printable characters, and after a space its tenant"),
        (f"{ONE} a contrl", "after another `control` where it may change models"),
        (f"{ONE} a control b", "line 1: it must hold a key"),
        (f"{ONE} control", "line 1: no tenant may be called 'control': write `KEY TENANT control`"),
        (f"{ONE}\n{ONE}", "line 2: the key stands there twice"),
        (f"{ONE} {'t' * 65}", "line 1: the tenant .* is none: give 1 to 64 printable characters"),
        ("k\u00e9y-of-sixteen-chars", "line 1: it must hold a key of printable characters"),
    ],
)
def test_keys_that_can_be_none_are_told_without_being_shown(text: str, message: str) -> None:
    """By the number of their line."""
    with pytest.raises(ConfigError, match=message) as told:
        parse_keys(text.splitlines(), source="the file")
    assert ONE not in str(told.value)


def test_a_file_that_can_not_be_read_is_told(tmp_path: Path) -> None:
    """With the reason."""
    with pytest.raises(ConfigError, match=r"the API keys can't be read from .*none \(No such file"):
        read_keys(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        read_keys(tmp_path / "binary")


@pytest.mark.parametrize(
    ("headers", "tenant"),
    [
        ({b"authorization": b"Bearer " + ONE.encode()}, "team-a"),
        ({b"authorization": b"bearer  " + ONE.encode()}, "team-a"),
        ({b"x-api-key": TWO.encode()}, "team-b"),
        ({b"authorization": b"Basic abc", b"x-api-key": TWO.encode()}, "team-b"),
    ],
)
def test_a_key_says_whose_a_request_is(headers: dict[bytes, bytes], tenant: str) -> None:
    """Wherever clients put it."""
    access = Access({ONE: "team-a", TWO: "team-b"})
    assert access.tenant_of(headers, "clients") == tenant


@pytest.mark.parametrize(
    "headers",
    [{}, {b"authorization": b"Bearer"}, {b"x-api-key": ONE.encode()[:-1]}, {b"authorization": ONE.encode()}],
)
def test_without_a_key_nobody_is_let_in(headers: dict[bytes, bytes]) -> None:
    """But to what is open to all."""
    access = Access({ONE: ""}, keyless=("health", "metrics"))
    with pytest.raises(Fault) as told:
        access.tenant_of(headers, "clients")
    assert (told.value.status, told.value.code) == (401, "invalid_api_key")
    assert access.tenant_of(headers, "metrics") == ""


def test_where_there_are_no_keys_everybody_is_let_in() -> None:
    """And names their own tenant."""
    assert Access().is_open
    assert Access().tenant_of({b"x-tenant": b"team-c"}, "clients") == "team-c"


def test_a_key_is_marked_by_a_third_word() -> None:
    """It is the key that may change things, and not all keys of its tenant."""
    keys = parse_keys([f"{ONE} team", f"{TWO} team control"], source="the file")
    assert keys == {ONE: Holder("team"), TWO: Holder("team", controls=True)}
    access = Access(keys)
    assert [access.may_control({b"x-api-key": key.encode()}) for key in (ONE, TWO)] == [False, True]
    assert not access.may_control({})
    assert not access.may_control({b"x-tenant": b"team"})
    assert Access().may_control({})
