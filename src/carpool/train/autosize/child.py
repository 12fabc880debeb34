"""The process of one probe: makes the setup, trains with one size of micro-batch, answers, and ends.

Peaks are measured with freed memory given back at once; times with the C library as training will find it.

What is asked comes as one line of JSON on standard input, which stays open as long as the other side lives; the answer
goes to a file. What the user's code prints goes where the parent says.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carpool.profile.probe_child import HostPeak, volunteer
from carpool.train.autosize.answer import Answer
from carpool.train.autosize.freed_memory import give_back_freed_memory
from carpool.train.autosize.probe import probe_steps
from carpool.train.autosize.source import Source, load_setup
from carpool.train.autosize.timing import time_sizes


def main() -> None:
    """Answer what is asked, once."""
    volunteer()
    asked = json.loads(sys.stdin.readline())
    if not asked["budget_s"]:
        give_back_freed_memory()
    held = HostPeak()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    answer = asdict(_answer(asked, held))
    path = Path(asked["answer"])
    written = path.with_suffix(".part")
    written.write_text(json.dumps(answer), encoding="utf-8")
    written.replace(path)
    sys.stderr.flush()
    os._exit(0)  # what else the user's code has running is not waited for


def _end_with_parent() -> None:
    # Not through sys.stdin: a loader's worker that is forked meanwhile would wait for its lock for ever.
    os.read(0, 1)
    os._exit(1)


def _answer(asked: dict[str, Any], held: HostPeak) -> Answer:
    try:
        if asked["num_threads"]:
            _set_threads(asked["num_threads"])
        setup = load_setup(Source(target=asked["target"], pickled=asked["pickled"]))
        setup_bytes = held.read()
        if asked["budget_s"]:
            return time_sizes(setup, asked["sizes"], budget_s=asked["budget_s"])
        answer = probe_steps(setup, asked["sizes"][0], reserves=asked["reserves"])
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the parent is to say it
        return Answer.of(error)
    return Answer(**{**asdict(answer), "setup_bytes": setup_bytes})


def _set_threads(num_threads: int) -> None:
    import torch

    torch.set_num_threads(num_threads)
