"""The whole search with real training steps in real processes, against the peaks of every size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from carpool.train import find_micro_batch
from carpool.train.autosize.search import MOST_PROBES
from carpool.train.autosize.throughput import sizes_to_time

SETUPS = Path(__file__).with_name("setups.py")
MOST, AIM = 24, 18
EVERY_SIZE = f"""
import json
from carpool.train.autosize.freed_memory import give_back_freed_memory
give_back_freed_memory()
from carpool.train.autosize.probe import probe_steps
from carpool.train.autosize.source import load_setup
setup = load_setup({str(SETUPS) + ":wide"!r})
print(json.dumps([probe_steps(setup, size).peak_bytes for size in range(1, {MOST + 1})]))
"""


def test_the_micro_batch_found_is_within_five_per_cent_of_the_largest_that_fits() -> None:
    """Every size is tried in one process; the search, with processes of its own, finds what that shows to fit."""
    done = subprocess.run([sys.executable, "-c", EVERY_SIZE], capture_output=True, text=True, check=True)
    peaks: list[int] = json.loads(done.stdout)
    limit = (peaks[AIM - 1] + peaks[AIM]) // 2
    largest = max(size for size, peak in enumerate(peaks, start=1) if peak <= limit)
    found = find_micro_batch(f"{SETUPS}:wide", memory=limit, most=MOST, device="cpu", timing_s=0.2)
    assert len(found.probes) <= MOST_PROBES
    assert abs(found.size - largest) <= max(1, 0.05 * largest)
    assert found.peak_bytes <= limit
    assert found.usual_bytes is not None
    assert found.throughput is not None
    assert [timing.size for timing in found.throughput.timings] == list(sizes_to_time(found.size))
    assert found.num_items == 5000
