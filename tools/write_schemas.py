"""Writes the JSON Schemas of the files that Carpool reads and writes to docs/reference/schemas/.

Run it after a change to one of their types; a test compares what is published with what this would write::

    python tools/write_schemas.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import msgspec

from carpool.config.document import schema
from carpool.config.tables import SettingsFile
from carpool.profile.artefact import Profile
from carpool.profile.llm_artefact import LlmProfile
from carpool.signals.event_log import EventsHeader
from carpool.signals.events import Event

DIRECTORY = Path(__file__).resolve().parent.parent / "docs" / "reference" / "schemas"


def published() -> dict[str, bytes]:
    """Return every published schema by its file's name."""
    schemas = {
        "carpool-toml.json": schema(SettingsFile, title="carpool.toml", version_required=False),
        "events-line.json": _line_of_events(),
        "llm-profile.json": schema(LlmProfile, title="profile.json of a model that generates"),
        "profile.json": schema(Profile, title="profile.json"),
    }
    return {name: msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n" for name, found in schemas.items()}


def _line_of_events() -> dict[str, Any]:
    """Return the schema of one line of a file of events: its header, or one event under its name."""
    whole = schema(EventsHeader, title="one line of a file of events")
    lines = [whole.pop("$ref")]
    for event in get_args(Event):
        name = event.__name__
        defined = schema(event, title=name)["$defs"]
        body = defined[name]
        body["properties"] = {"event": {"const": name}, **body["properties"]}
        body["required"] = ["event", *body["required"]]
        whole["$defs"] |= defined
        lines.append(f"#/$defs/{name}")
    return {**whole, "oneOf": [{"$ref": line} for line in lines]}


def main() -> None:
    """Write them all, and remove what is no longer published."""
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    schemas = published()
    for old in DIRECTORY.glob("*.json"):
        if old.name not in schemas:
            old.unlink()
    for name, content in schemas.items():
        (DIRECTORY / name).write_bytes(content)
        print(f"wrote {DIRECTORY / name}")


if __name__ == "__main__":
    main()
