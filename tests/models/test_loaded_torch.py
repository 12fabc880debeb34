"""PyTorch is found whole, or not at all."""

from __future__ import annotations

import subprocess
import sys

HALF_IMPORTED = """
import sys, threading
from carpool.models.loaded_torch import loaded_torch

assert loaded_torch() is None and "torch" not in sys.modules
importing = threading.Thread(target=lambda: __import__("torch"))
importing.start()
while "torch" not in sys.modules:
    pass
assert loaded_torch().get_num_threads() >= 1
importing.join()
"""


def test_a_module_that_another_thread_imports_is_waited_for() -> None:
    """As where a function's model and an encoder load at the same time."""
    command = [sys.executable, "-c", HALF_IMPORTED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
