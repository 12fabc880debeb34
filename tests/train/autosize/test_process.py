"""Probes in processes of their own: what they answer, how they end, and what is made of that."""

from __future__ import annotations

from pathlib import Path

import pytest

from carpool.errors import CarpoolError
from carpool.train.autosize.answer import Answer
from carpool.train.autosize.find import find_micro_batch
from carpool.train.autosize.process import FreshProcesses, alone, how_it_died, on_the_cpu
from carpool.train.autosize.source import Source
from tests.train.autosize.setups import FATAL

SETUPS = Path(__file__).with_name("setups.py")
TIB = 1 << 40


def processes(name: str, *, limit_bytes: int = TIB, timeout_s: float = 100.0) -> FreshProcesses:
    """Probe a setup of ours, with all the memory that there is."""
    return FreshProcesses(
        Source(target=f"{SETUPS}:{name}"),
        limit_bytes=limit_bytes,
        timing_limit_bytes=TIB,
        timeout_s=timeout_s,
    )


def test_a_probe_killed_by_the_system_is_an_answer() -> None:
    """A process that the system ends for want of memory says by its death that the size does not fit."""
    answer = processes("killed").ask(FATAL)
    assert (answer.cause, answer.peak_bytes) == ("memory", None)
    assert answer.error == "the process was killed (SIGKILL)"


def test_what_torch_says_under_a_limit_of_the_process_means_that_memory_ran_out() -> None:
    """On the CPU PyTorch raises a plain RuntimeError, whose text is all that tells; here PyTorch itself writes it."""
    answer = processes("limited").ask(FATAL)
    assert answer.cause == "memory"
    assert "DefaultCPUAllocator" in answer.error


def test_a_process_that_passes_the_limit_is_ended() -> None:
    """The limit is not left to the system: the process is watched."""
    answer = processes("small", limit_bytes=1).ask(1)
    assert answer.cause == "memory"
    assert "held and rising" in answer.error


def test_a_process_that_takes_too_long_is_ended() -> None:
    """Time is a limit too, and the message says which option it is."""
    answer = processes("small", timeout_s=0.0).ask(1)
    assert answer.cause == "time"
    assert answer.error.endswith("raise timeout_s to wait longer")


@pytest.mark.parametrize(
    ("code", "said", "cause"),
    [
        (-9, "", "memory"),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", "memory"),
        (1, "libgomp: Thread creation failed: Resource temporarily unavailable", "memory"),
        (-11, "Segmentation fault", "model"),
        (3, "", "model"),
    ],
)
def test_what_a_process_said_last_tells_why_it_died(code: int, said: str, cause: str) -> None:
    """Where memory runs out in a library, it ends the process with a word on standard error."""
    answer = how_it_died(code, said)
    assert answer.cause == cause
    assert said in answer.error


def test_steps_that_were_made_on_an_accelerator_are_none_of_a_process() -> None:
    """Its memory is not what was limited, nor measured."""
    assert on_the_cpu(Answer(device="cuda:0", peak_bytes=7)).error.startswith("the model is on cuda:0, and device is")
    assert on_the_cpu(Answer(device="cpu", peak_bytes=7)).peak_bytes == 7


def test_a_probe_of_one_rank_is_no_rank_of_the_others() -> None:
    """A setup that calls init_process_group makes a group of its own, at an address of its own."""
    environ = {
        "RANK": "3",
        "LOCAL_RANK": "3",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    own = alone(environ)
    assert (own["RANK"], own["WORLD_SIZE"], own["LOCAL_RANK"], own["MASTER_ADDR"]) == ("0", "1", "3", "127.0.0.1")
    assert own["MASTER_PORT"] != "1"
    assert "TORCHELASTIC_USE_AGENT_STORE" not in own
    assert alone({"HOME": "/"}) == {"HOME": "/"}


def test_a_file_that_searches_as_it_is_loaded_is_told_to_wait_for_its_own_run(tmp_path: Path) -> None:
    """Each probe would begin a search of its own otherwise, and each of those more."""
    file = tmp_path / "unguarded.py"
    lines = ["import torch", "from carpool.train import TrainSetup, find_micro_batch", "def setup(): ..."]
    file.write_text("\n".join([*lines, "find_micro_batch(setup, most=2)"]), encoding="utf-8")
    with pytest.raises(CarpoolError, match="put what is not for every process"):
        find_micro_batch(f"{file}:setup", most=2, timing_s=0)
