"""Which environment variables are settings, which belong to others, and which are slips of the keyboard."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

    from carpool.config.leaf import Leaf

PREFIX = "CARPOOL_"
# Ours, and no settings: what shows a traceback, and the key that `carpool policy` sends.
_OTHERS_OF_OURS = frozenset({"CARPOOL_DEBUG", "CARPOOL_API_KEY"})
# What Kubernetes tells every container of a Service that is called carpool, or carpool-something.
_OF_KUBERNETES = re.compile(r"CARPOOL_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_KUBERNETES_ADDRESS = re.compile(r"(tcp|udp|sctp)://.*")
_ALIKE = 0.75


def settings_in(environ: Mapping[str, str], leaves: Iterable[Leaf]) -> dict[str, str]:
    """Return the text of each key that a variable sets.

    A variable that begins with `CARPOOL_` and is like one of ours is a slip; other programs' are left alone.

    Args:
        environ: Every variable.
        leaves: The keys that there are; tables with names of the user's own can't be set so.

    Raises:
        ConfigError: A variable is like one of ours, which is named.
    """
    known = {leaf.variable: leaf.key for leaf in leaves if not leaf.is_table}
    tables = {key.partition(".")[0].upper() for key in known.values() if "." in key}
    found: dict[str, str] = {}
    for name, text in environ.items():
        if not name.startswith(PREFIX) or _is_of_others(name, text):
            continue
        if name in known:
            found[known[name]] = text
        else:
            _refuse_slip(name.removeprefix(PREFIX), [variable.removeprefix(PREFIX) for variable in known], tables)
    return found


def _is_of_others(name: str, text: str) -> bool:
    if name in _OTHERS_OF_OURS or _OF_KUBERNETES.fullmatch(name):
        return True
    return name.endswith("_PORT") and _KUBERNETES_ADDRESS.fullmatch(text) is not None


def _refuse_slip(name: str, known: list[str], tables: AbstractSet[str]) -> None:
    """Refuse what was meant for a key: what is in a table of ours, lacks the table, or is spelt like one of ours.

    Args:
        name: The variable, as all of them here without the prefix.
        known: Those that there are.
        tables: The first words of those that have two parts.
    """
    head = name.partition("_")[0]
    if get_close_matches(head, ["TENANTS"], cutoff=_ALIKE):
        raise ConfigError(f"{PREFIX}{name} sets nothing: tenants can be set in a file only, under [tenants]")
    in_table = [variable for variable in known if head in tables and variable.startswith(f"{head}_")]
    without_table = [variable for variable in known if "_" in variable and variable.partition("_")[2] == name]
    alike = get_close_matches(name, in_table or known, n=1, cutoff=0.0 if in_table else _ALIKE)
    meant = without_table or alike
    if meant:
        raise ConfigError(f"{PREFIX}{name} is not a variable that is known: did you mean {PREFIX}{meant[0]}?")
