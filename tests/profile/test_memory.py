"""Probes of memory: the search in virtual time, and a real process that dies."""

import sys
from pathlib import Path

import pytest

from carpool.errors import ConfigError
from carpool.profile.memory import Probe, Search, shapes_to_probe, why_unfit
from carpool.profile.memory_limit import cgroup_limits, find_limit
from carpool.profile.probe_process import ModelSource, ProbeProcess, source_of
from carpool.profile.shape import Shape
from tests.profile.virtual import VirtualProber, VirtualTime

MIB = 1024**2
MODEL = '''
import os, signal, sys
import numpy as np

def length(item):
    return 1

class Greedy:
    """Holds one MiB an item; batches of 8 end the process, batches of 4 say that memory ran out."""

    examples = [1.0, 2.0]

    def __call__(self, batch):
        print("a model may print what it likes")
        if len(batch) >= 8:
            os.kill(os.getpid(), signal.SIGKILL)
        if len(batch) == 4:
            raise MemoryError("no room")
        if len(batch) == 3:
            raise ValueError("no threes")
        held = np.ones((len(batch), 1024, 1024), dtype=np.uint8)
        return [float(one.sum()) for one in held]
'''


def search(prober: VirtualProber, *, limit_bytes: int, until: float = 1e9) -> Search:
    """A search in the prober's time."""
    return Search(prober, limit_bytes=limit_bytes, limit_source="a test", clock=prober.time, until=until)


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A file with a model that dies of large batches."""
    path = tmp_path / "greedy.py"
    path.write_text(MODEL)
    return path


def test_probes_span_the_range_with_few_shapes() -> None:
    """The shortest and longest length, and every second batch size down from the largest."""
    assert shapes_to_probe((1, 2, 4, 8), (16, 32, 64)) == [
        Shape(1, 16),
        Shape(2, 16),
        Shape(1, 64),
        Shape(8, 16),
        Shape(2, 64),
        Shape(8, 64),
    ]


def test_peaks_are_found_within_the_limit() -> None:
    """Everything that fits is probed once, least work first."""
    prober = VirtualProber(VirtualTime(), lambda shape: 100 * MIB + shape.num_tokens * MIB)
    found = search(prober, limit_bytes=10**12).run([Shape(4, 8), Shape(1, 8), Shape(4, 16)])
    assert prober.asked == [Shape(1, 8), Shape(4, 8), Shape(4, 16)]
    assert [probe.peak_bytes for probe in found] == [108 * MIB, 132 * MIB, 164 * MIB]


def test_size_that_is_predicted_to_pass_the_limit_is_never_run() -> None:
    """After three probes the fourth is predicted, and recorded as not fitting with both figures."""
    prober = VirtualProber(VirtualTime(), lambda shape: 100 * MIB + shape.batch_size * 10 * MIB)
    found = search(prober, limit_bytes=200 * MIB).run([Shape(size) for size in (1, 2, 4, 8, 64)])
    assert prober.asked == [Shape(1), Shape(2), Shape(4), Shape(8)]
    assert found[-1].outcome == "does not fit"
    assert found[-1].reason == "would pass the limit: 740 MiB predicted, 200 MiB allowed (a test)"


def test_search_goes_on_after_a_death() -> None:
    """A shape that kills the process does not fit, nor do larger ones; other shapes are still probed."""
    prober = VirtualProber(VirtualTime(), lambda _: MIB, dies_of=lambda shape: shape.length == 64)
    found = search(prober, limit_bytes=10**12).run([Shape(size, length) for size in (1, 4) for length in (8, 64)])
    outcomes = {probe.shape: (probe.outcome, probe.reason) for probe in found}
    assert outcomes[Shape(1, 64)] == ("does not fit", "the process was killed (SIGKILL)")
    assert outcomes[Shape(4, 64)] == ("does not fit", "larger than 1 x 64, which does not fit")
    assert outcomes[Shape(4, 8)][0] == "fits"


def test_probes_end_with_their_time() -> None:
    """What is predicted to take longer than is left is not probed, which is not the same as not fitting."""
    prober = VirtualProber(VirtualTime(), lambda _: MIB)
    found = search(prober, limit_bytes=10**12, until=0.5).run([Shape(1), Shape(1000)])
    assert found[-1].outcome == "not probed"
    assert "raise --budget" in found[-1].reason


def test_shapes_between_probes_are_judged_by_the_fit() -> None:
    """A batch of 6 lies between probes of 4 and 8: the model fitted to the peaks decides."""
    probes = [Probe(batch_size=b, length=1, outcome="fits", peak_bytes=100 * b * MIB) for b in (1, 2, 4)]
    assert why_unfit(Shape(3), probes, limit_bytes=500 * MIB) == ""
    assert "would pass the limit" in why_unfit(Shape(6), probes, limit_bytes=500 * MIB)


def test_real_process_survives_its_death(model_file: Path) -> None:
    """A batch that ends the process, one without memory and one that raises: each told apart, the rest measured."""
    with ProbeProcess(ModelSource(target=f"{model_file}:Greedy"), seed=0, most_items=8) as process:
        process.start()
        process.wait_until_loaded(60.0)
        answers = {
            size: process.ask(Shape(size), timeout_s=60.0, limit_bytes=8 * 1024 * MIB) for size in (1, 3, 4, 8, 2)
        }
    assert (answers[8].died, answers[8].out_of_memory) == (True, True)
    assert answers[8].error == "the process was killed (SIGKILL)"
    assert (answers[4].died, answers[4].out_of_memory) == (False, True)
    assert (answers[3].out_of_memory, answers[3].peak_bytes) == (False, None)
    assert "no threes" in answers[3].error
    # After the death another process answered.
    assert (answers[2].peak_bytes or 0) > MIB
    assert (answers[1].peak_bytes or 0) > MIB


def test_process_that_passes_the_limit_is_ended(model_file: Path) -> None:
    """A process seen to hold more than the limit is ended, and the size recorded as not fitting."""
    slow = model_file.with_name("slow.py")
    slow.write_text(MODEL.replace('print("a model may print what it likes")', "sys.stdin.read()"))
    source = ModelSource(target=f"{slow}:Greedy")
    with ProbeProcess(source, seed=0, most_items=2, memory_of=lambda _: 300 * MIB) as process:
        process.wait_until_loaded(60.0)
        answer = process.ask(Shape(2), timeout_s=60.0, limit_bytes=200 * MIB)
    assert (answer.died, answer.out_of_memory) == (True, True)
    assert answer.error == "passed the limit: 300 MiB held and rising, 200 MiB allowed"


def test_object_that_cannot_be_pickled_says_so() -> None:
    """A function made within another can't be sent: the message names it and the remedy."""
    with pytest.raises(
        ConfigError, match=r"can't be sent to another process .*: name it as a TARGET, such as file.py:name"
    ):
        source_of(lambda batch: batch)


def test_limit_asked_for_holds_where_it_is_the_tightest() -> None:
    """A limit below what the machine leaves is the one named."""
    assert find_limit(1000).source == "as asked for"
    assert find_limit(10**18).limit_bytes < 10**18


def test_container_limit_is_what_it_leaves(tmp_path: Path) -> None:
    """Of a group's memory its present use is taken off; a group without limit does not count."""
    group = tmp_path / "app"
    group.mkdir()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("5\n")
    (group / "memory.max").write_text("1000\n")
    (group / "memory.current").write_text("400\n")
    assert [limit.limit_bytes for limit in cgroup_limits(tmp_path, "/app")] == [600]


def test_older_container_limit_is_read(tmp_path: Path) -> None:
    """Version 1 of control groups has other names, and a huge number for no limit."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("2000\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("500\n")
    assert [limit.limit_bytes for limit in cgroup_limits(tmp_path, "/")] == [1500]
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(str(sys.maxsize))
    assert cgroup_limits(tmp_path, "/") == []


def test_files_that_a_container_can_give_up_are_not_held_against_it(tmp_path: Path) -> None:
    """What was read from files and not used lately is dropped before memory runs out, in both versions."""
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 100\nactive_file 200\ninactive_file 600\n")
    assert [limit.limit_bytes for limit in cgroup_limits(tmp_path, "/")] == [700]
    old = tmp_path / "memory" / "app"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("500\n")
    (old / "memory.usage_in_bytes").write_text("450\n")
    (old / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 50\n")
    assert [limit.limit_bytes for limit in cgroup_limits(tmp_path, "/", "/app")] == [700, 100]


def test_processes_that_share_a_machine_share_what_it_leaves() -> None:
    """Each of several processes is allowed its part of the machine's memory, and the whole of what was asked for."""
    together = find_limit(num_processes=4)
    assert together.limit_bytes < find_limit().limit_bytes / 3
    assert "shared by 4 processes" in together.source
    assert find_limit(1000, num_processes=4).limit_bytes == 1000
