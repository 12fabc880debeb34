"""What a process ended of, in words."""

from __future__ import annotations

import pytest

from carpool.runtime.process.spawn import cause_of_death


@pytest.mark.parametrize(
    ("exit_code", "said"),
    [
        (-9, "was ended by SIGKILL: often the system's out-of-memory killer"),
        (-11, "was ended by SIGSEGV: native code of the model crashed"),
        (-15, "was ended by SIGTERM: see what it wrote to the standard error"),
        (-64, "was ended by S"),
        (-250, "was ended by signal 250"),
        (0, "ended with exit code 0: the model, or a library in it, left the program"),
    ],
)
def test_the_cause_of_a_death_is_named(exit_code: int, said: str) -> None:
    """A signal by its name, an exit by its code, and what to do."""
    assert said in cause_of_death(exit_code)
