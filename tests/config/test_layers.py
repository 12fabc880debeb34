"""Files that hold what nothing can be made of: always a sentence, and never more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carpool.config.settings import load_settings
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[http]\napi_keys = "a\\u0000b"', " holds a NUL character; it must be text without one (file of API keys"),
        ('[telemetry]\nlog_file = "a\\u0000b"', r"telemetry.log_file: 'a\x00b' holds a NUL character"),
        ('[model]\ntarget = "a\\u0000.py:x"', r"model.target: 'a\x00.py:x' holds a NUL character"),
        ('[model]\ndevices = ["cpu", "a\\u0000"]', "model.devices: ('cpu', 'a\\x00') holds a NUL character"),
        ('[telemetry]\ntraces = "http://[::1"', "telemetry.traces: 'http://[::1' is no address of a collector"),
        ('[telemetry]\ntraces = "http://x:99999"', "'http://x:99999' is no address of a collector"),
        (f"a = {'[' * 5000}{']' * 5000}", "it is not readable as TOML (maximum recursion depth exceeded"),
        (f"a = {'9' * 9000}", "it is not readable as TOML (Exceeds the limit"),
    ],
)
def test_what_nothing_can_be_made_of_is_a_sentence(text: str, said: str, tmp_path: Path) -> None:
    """Which names the key, where there is one."""
    file = tmp_path / "carpool.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_settings([file])
    assert said in str(caught.value)
