"""What is made of the probes: the result, the errors, and how ranks come to one answer. Memory is made up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from carpool.errors import CarpoolError, ConfigError, ModelError, OutOfMemory
from carpool.profile.memory_limit import MemoryLimit
from carpool.train import MicroBatch, RankStore, find_micro_batch
from carpool.train.autosize import find
from carpool.train.autosize.answer import Answer
from carpool.train.autosize.place import Place
from carpool.train.autosize.result import Probe, Timing, describe
from carpool.train.autosize.throughput import best_size

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1 << 20
SETUPS = Path(__file__).with_name("setups.py")


@dataclass
class MadeUp:
    """Memory of 100 MiB and 2 an item, in no process at all."""

    per_item: int = 2
    answer: Callable[[Answer, int], Answer] = lambda answer, _: answer
    timed: Answer | None = None
    asked: list[int] = field(default_factory=list)

    def ask(self, size: int) -> Answer:
        """Answer as if a size had been tried."""
        self.asked.append(size)
        peak = (100 + self.per_item * size) * MIB
        answer = Answer(peak_bytes=peak, setup_bytes=50 * MIB, num_items=5000, num_valid=size, device="cpu")
        return self.answer(answer, size)

    def time(self, sizes: Sequence[int], budget_s: float) -> Answer:
        """Answer as if sizes had been timed: a millisecond, and half of one an item until a cache is full."""
        if self.timed is not None:
            return self.timed
        passes_s = tuple((size, (1e-3 + 5e-4 * size * (2.0 if size > 100 else 1.0),) * 8) for size in sizes)
        return Answer(peak_bytes=700 * MIB, device="cpu", passes_s=passes_s, updates_s=(1e-3, 2e-3, 3e-3))


Found = Callable[..., MicroBatch]


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Search among memory that is made up, with a limit of 1000 MiB."""

    def run(prober: MadeUp, **options: object) -> MicroBatch:
        limit = MemoryLimit(limit_bytes=1000 * MIB, source="as asked for")
        place = Place(prober=prober, limit=limit, measure="made up")
        monkeypatch.setattr(find, "open_place", lambda *_, **__: place)
        return find_micro_batch("nowhere.py:setup", **options)  # type: ignore[arg-type]

    return run


def test_the_result_says_what_was_found_and_how_sure_it_is(search: Found) -> None:
    """Size, peak, limit, the size that does not fit, the line over sizes and the times."""
    told: list[Probe] = []
    found = search(MadeUp(), on_probe=told.append)
    assert (found.size, found.too_large, found.peak_bytes) == (441, 465, 982 * MIB)
    assert found.exact_within <= 0.0527
    assert tuple(told) == found.probes
    assert found.memory is not None
    assert found.memory.memory_bytes(450, 1) == pytest.approx(1000 * MIB, rel=1e-6)
    assert found.usual_bytes == 700 * MIB
    assert found.throughput is not None
    assert (found.best_throughput, found.throughput.update_s) == (55, 2e-3)
    assert str(found) == (
        "micro-batch 441: 982 MiB of 1,000 MiB (as asked for); 55 is fastest, 1,930 items/s; 7 probes"
    )
    assert [describe(probe) for probe in found.probes[-2:]] == [
        "micro-batch 441 fits: 982 MiB",
        "micro-batch 465 does not fit: 1.01 GiB needed while it trains, 0.977 GiB allowed (as asked for)",
    ]


def test_no_times_are_taken_where_none_are_asked_for(search: Found) -> None:
    """The largest micro-batch is then taken for the best."""
    found = search(MadeUp(), timing_s=0)
    assert (found.throughput, found.usual_bytes, found.best_throughput) == (None, None, 441)


def test_times_that_cannot_be_taken_cost_no_result(search: Found) -> None:
    """The process that times keeps what it frees, and may need more than the probes did."""
    found = search(MadeUp(timed=Answer(cause="memory", error="2 GiB held and rising, 1 GiB allowed")))
    assert (found.size, found.throughput, found.not_timed) == (441, None, "2 GiB held and rising, 1 GiB allowed")
    with pytest.raises(ModelError, match="then failed when they were timed: ValueError"):
        search(MadeUp(timed=Answer(cause="model", error="ValueError")))


def test_nothing_larger_than_the_data_or_than_asked_for_is_tried(search: Found) -> None:
    """`most` bounds the search, and so does the number of items."""
    prober = MadeUp()
    assert search(prober, most=50).size == 50
    few = MadeUp(answer=lambda answer, _: replace(answer, num_items=40))
    assert search(few).size == 40
    assert max(prober.asked) == 50
    assert max(few.asked) == 40


def died(cause: str, at: int = 1) -> MadeUp:
    """Steps that are not completed from a size on."""

    def answer(answer: Answer, size: int) -> Answer:
        return Answer(cause=cause, error="as it is") if size >= at else answer  # type: ignore[arg-type]

    return MadeUp(answer=answer)


@pytest.mark.parametrize(
    ("prober", "error", "said"),
    [
        (MadeUp(per_item=2000), OutOfMemory, "a micro-batch of 1 item does not fit in memory: 2.05 GiB needed while"),
        (died("memory"), OutOfMemory, "a micro-batch of 1 item does not fit in memory: as it is; allow more"),
        (died("time"), ModelError, "training with a micro-batch of 1 item failed: as it is"),
        (died("model"), ModelError, "training with a micro-batch of 2 items failed: as it is"),
        (
            died("model", at=16),
            ModelError,
            "training with micro-batches of 16 items failed, and not with 2: as it is; .* by most=15",
        ),
        (died("asked"), ConfigError, "^as it is$"),
        (
            MadeUp(answer=lambda answer, _: replace(answer, setup_bytes=2000 * MIB)),
            OutOfMemory,
            "1.95 GiB needed while the setup is made, 0.977 GiB allowed",
        ),
        (
            MadeUp(answer=lambda answer, _: replace(answer, num_valid=32)),
            ConfigError,
            "the loader's micro-batches have 32 valid items, whether 1 or 2 are asked for",
        ),
    ],
)
def test_what_goes_wrong_is_said(search: Found, prober: MadeUp, error: type[CarpoolError], said: str) -> None:
    """Each names the size, the limit and the remedy."""
    with pytest.raises(error, match=said):
        search(prober)


def test_a_size_that_dies_of_memory_bounds_the_search(search: Found) -> None:
    """A process that was killed is an answer, and the largest size below it is found."""
    assert 285 <= search(died("memory", at=300)).size < 300


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"most": 0}, "most is 0; it must be at least 1"),
        ({"memory": "2 apples"}, "'2 apples' is not a size"),
        ({"timeout_s": "soon"}, "'soon' is not a duration"),
    ],
)
def test_options_that_make_no_sense_are_refused(search: Found, options: dict[str, object], said: str) -> None:
    """Before anything is tried."""
    with pytest.raises(ConfigError, match=said):
        search(MadeUp(), **options)


def ranks(search: Found, probers: list[MadeUp]) -> list[MicroBatch | CarpoolError]:
    """Search on several ranks at once, which meet in one store."""
    store = HashStore()
    results: list[MicroBatch | CarpoolError] = [CarpoolError()] * len(probers)
    places: dict[int, MadeUp] = {}

    def run(rank: int) -> None:
        places[threading.get_ident()] = probers[rank]
        mine = RankStore(store=store, rank=rank, num_ranks=len(probers))
        try:
            results[rank] = search(Dispatching(places), ranks=mine, timeout_s=1.0)
        except CarpoolError as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(probers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@dataclass
class Dispatching(MadeUp):
    """Asks the prober of the thread's own rank."""

    places: dict[int, MadeUp] = field(default_factory=dict)

    def __init__(self, places: dict[int, MadeUp]) -> None:
        self.places = places

    def ask(self, size: int) -> Answer:
        """Answer as this rank's memory does."""
        return self.places[threading.get_ident()].ask(size)

    def time(self, sizes: Sequence[int], budget_s: float) -> Answer:
        """Answer as this rank's memory does."""
        return self.places[threading.get_ident()].time(sizes, budget_s)


def test_ranks_agree_on_what_fits_on_all(search: Found) -> None:
    """The smallest of their results is everyone's, with each rank's own peak for it."""
    large, small = ranks(search, [MadeUp(per_item=2), MadeUp(per_item=4)])
    assert isinstance(large, MicroBatch)
    assert isinstance(small, MicroBatch)
    assert large.size == small.size == small.probes[-2].size
    assert large.peak_bytes == (100 + 2 * large.size) * MIB
    assert large.probes != small.probes


def test_a_rank_that_fails_fails_all_at_once(search: Found) -> None:
    """No rank waits for one that has given up, and the one that met the error keeps it."""
    first, second = ranks(search, [MadeUp(), died("memory")])
    assert isinstance(first, ModelError)
    assert "rank 1 found no micro-batch: a micro-batch of 1 item does not fit" in str(first)
    assert isinstance(second, OutOfMemory)


def test_a_rank_that_says_nothing_is_named() -> None:
    """A wait has an end, and says for whom it was."""
    alone = RankStore(store=HashStore(), rank=0, num_ranks=2)
    with pytest.raises(ModelError, match=r"rank 1 said nothing of its micro-batch within 10 ms: all 2 ranks must"):
        alone.exchange({"number": 1}, 0.01)


def test_a_process_without_others_has_no_store() -> None:
    """One rank, or none, has nobody to agree with."""
    assert RankStore.here({}) is None
    assert RankStore.here({"WORLD_SIZE": "1"}) is None
    with pytest.raises(ConfigError, match="WORLD_SIZE names several ranks, and there is no way to reach them"):
        RankStore.here({"WORLD_SIZE": "2"})


def test_a_device_that_is_not_there_is_refused() -> None:
    """The machine says what it has."""
    with pytest.raises(ConfigError, match="device 'cuda:7' is not on this machine; it has cpu"):
        find_micro_batch(f"{SETUPS}:small", device="cuda:7")


def test_the_fastest_size_is_the_smallest_that_is_as_good() -> None:
    """A gain within the noise of a measurement is no reason for a larger micro-batch."""
    rates = {1: 100.0, 8: 980.0, 64: 1000.0, 128: 700.0}
    timings = [Timing(size=size, pass_s=size / rate, low_s=0.0, high_s=1.0) for size, rate in rates.items()]
    assert best_size(timings) == 8
