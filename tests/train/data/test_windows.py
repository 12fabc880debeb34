"""Windows hold exactly the effective batch, each item comes once, and a pass goes on where it was broken off."""

import json
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.windows import EffectiveBatchSampler, WindowSampler
from tests.train.data.strategies import plans

ITEMS = st.integers(1, 90)
PLAN = BatchPlan(effective_batch_size=4, micro_batch_size=2)
USUAL: dict[str, Any] = {"num_items": 9, "plan": PLAN}


def by_window(sampler: WindowSampler) -> list[list[list[int]]]:
    """One pass: the indices of each micro-batch of each window."""
    return list(sampler.windows(sampler))


def on_all_ranks(num_items: int, plan: BatchPlan, **more: Any) -> list[list[list[list[int]]]]:
    """One pass on each rank."""
    return [by_window(EffectiveBatchSampler(num_items, plan, rank=rank, **more)) for rank in range(plan.num_ranks)]


def flat(batches: Any) -> list[int]:
    """The indices of some micro-batches."""
    return list(chain.from_iterable(batches))


def members(ranks: list[list[list[list[int]]]]) -> list[list[int]]:
    """The items of each window, whoever computes them."""
    return [sorted(flat(flat(window))) for window in zip(*ranks, strict=True)]


@given(ITEMS, plans(), st.booleans(), st.integers(0, 5))
def test_each_item_comes_once_an_epoch(num_items: int, plan: BatchPlan, shuffle: bool, seed: int) -> None:
    """All ranks together give every item, and none twice."""
    windows = members(on_all_ranks(num_items, plan, shuffle=shuffle, seed=seed))
    assert sorted(flat(windows)) == list(range(num_items))


@given(ITEMS, plans())
def test_each_window_has_the_effective_batch(num_items: int, plan: BatchPlan) -> None:
    """All have, but the last, of which the sampler tells."""
    sampler = EffectiveBatchSampler(num_items, plan)
    sizes = [len(window) for window in members(on_all_ranks(num_items, plan))]
    assert sizes[:-1] == [plan.effective_batch_size] * (sampler.num_windows - 1)
    assert sizes[-1] == sampler.last_window_size


@given(ITEMS, plans())
def test_micro_batches_have_the_sizes_of_the_plan(num_items: int, plan: BatchPlan) -> None:
    """Each rank's micro-batches of a full window are those of the plan; none is larger, and none is empty."""
    for rank, windows in enumerate(on_all_ranks(num_items, plan)):
        sizes = [[len(batch) for batch in window] for window in windows]
        full = num_items // plan.effective_batch_size
        assert sizes[:full] == [[size for size in plan.sizes(rank) if size]] * full
        assert all(0 < size <= plan.micro_batch_size for size in chain.from_iterable(sizes))


@given(ITEMS, plans(), st.integers(0, 3))
def test_windows_are_the_same_on_any_ranks_and_in_any_micro_batches(
    num_items: int, plan: BatchPlan, epoch: int
) -> None:
    """What the optimiser sees is one and the same, however it is computed."""
    whole = EffectiveBatchSampler(
        num_items, BatchPlan(effective_batch_size=plan.effective_batch_size, micro_batch_size=plan.effective_batch_size)
    )
    parts = [EffectiveBatchSampler(num_items, plan, rank=rank) for rank in range(plan.num_ranks)]
    for sampler in (whole, *parts):
        sampler.set_epoch(epoch)
    assert members([by_window(part) for part in parts]) == members([by_window(whole)])


@given(ITEMS, plans())
def test_length_is_the_number_of_micro_batches(num_items: int, plan: BatchPlan) -> None:
    """A loader's length is right on each rank."""
    for rank in range(plan.num_ranks):
        sampler = EffectiveBatchSampler(num_items, plan, rank=rank)
        assert len(sampler) == len(list(sampler))


@given(ITEMS, plans(), st.data())
def test_a_pass_goes_on_on_other_ranks_in_other_micro_batches(num_items: int, plan: BatchPlan, data: Any) -> None:
    """After any window, a sampler with another plan of the same effective batch gives the windows that are left."""
    sampler = EffectiveBatchSampler(num_items, plan, seed=3)
    everything = members(on_all_ranks(num_items, plan, seed=3))
    num_done = data.draw(st.integers(0, sampler.num_windows - 1))
    passing = sampler.windows(sampler)
    for _ in range(num_done):
        next(passing)
    num_ranks = data.draw(st.integers(1, min(4, plan.effective_batch_size)))
    other = plan.with_ranks(num_ranks).with_micro_batch(data.draw(st.integers(1, 10)))
    ranks = [EffectiveBatchSampler(num_items, other, rank=rank, seed=3) for rank in range(num_ranks)]
    for rank in ranks:
        rank.load_state_dict(sampler.state_dict(num_done))
    assert members([by_window(rank) for rank in ranks]) == everything[num_done:]


@given(st.integers(2, 90), plans(), plans())
def test_plan_may_change_between_windows(num_items: int, plan: BatchPlan, other: BatchPlan) -> None:
    """The next window has the new effective batch, and still each item comes once."""
    other = other.with_ranks(1)
    sampler = EffectiveBatchSampler(num_items, plan.with_ranks(1))
    windows = []
    for window in sampler.windows(sampler):
        sampler.set_plan(other)
        windows.append(flat(window))
    first = min(plan.effective_batch_size, num_items)
    assert [len(window) for window in windows[:2]] == [first, *[min(other.effective_batch_size, num_items - first)]][
        : len(windows)
    ]
    assert sorted(flat(windows)) == list(range(num_items))


def test_every_epoch_has_another_order_by_itself() -> None:
    """Nobody has to say which epoch it is; `set_epoch` brings one back."""
    sampler = EffectiveBatchSampler(20, PLAN)
    first, second = list(sampler), list(sampler)
    assert first != second
    assert sampler.epoch == 1
    sampler.set_epoch(0)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) == second


def test_seed_chooses_the_order() -> None:
    """Equal seeds give equal orders, others others."""
    first, same, other = (list(EffectiveBatchSampler(20, PLAN, seed=seed)) for seed in (7, 7, 8))
    assert first == same
    assert first != other


def test_order_is_uniform() -> None:
    """Over many epochs each item is first about as often as any other."""
    sampler = EffectiveBatchSampler(5, BatchPlan(effective_batch_size=5, micro_batch_size=5))
    firsts = np.bincount([next(iter(sampler))[0] for _ in map(sampler.set_epoch, range(2000))], minlength=5)
    assert np.abs(firsts - 400).max() < 75  # four standard deviations


def test_without_shuffling_items_come_as_they_are() -> None:
    """In the order of the data set, cut among the ranks window by window."""
    plan = BatchPlan(effective_batch_size=8, micro_batch_size=2, num_ranks=2)
    assert list(EffectiveBatchSampler(16, plan, rank=1, shuffle=False)) == [[2, 3], [6, 7], [10, 11], [14, 15]]


def test_a_pass_that_was_broken_off_begins_again() -> None:
    """Looking at the first micro-batch does not lose it."""
    sampler = EffectiveBatchSampler(9, PLAN)
    whole = list(EffectiveBatchSampler(9, PLAN))
    assert next(iter(sampler)) == whole[0]
    assert list(sampler) == whole


def test_state_counts_windows_that_were_handed_out_whole() -> None:
    """A window of which one micro-batch is missing is computed again; one whose last was given is not."""
    sampler = EffectiveBatchSampler(9, PLAN)
    passing = iter(sampler)
    states = [sampler.state_dict() for _ in passing]
    assert [(state["epoch"], state["num_items_done"]) for state in states] == [(0, 0), (0, 4), (0, 4), (0, 8), (1, 0)]


def test_state_may_count_what_was_trained_instead() -> None:
    """Where workers fetch ahead, only the caller knows how far training has come."""
    sampler = EffectiveBatchSampler(9, PLAN)
    list(sampler)
    assert sampler.state_dict(num_windows=1)["num_items_done"] == 4
    with pytest.raises(ConfigError, match="num_windows is 4, and this pass has handed out 3: count from its beginning"):
        sampler.state_dict(num_windows=4)


def resumed(num_windows: int) -> tuple[EffectiveBatchSampler, list[list[list[int]]]]:
    """A sampler that goes on after so many windows, and the windows of the epoch."""
    windows = by_window(whole := EffectiveBatchSampler(9, PLAN))
    sampler = EffectiveBatchSampler(9, PLAN)
    sampler.load_state_dict(whole.state_dict(num_windows))
    return sampler, windows


def test_naming_the_epoch_of_a_checkpoint_does_not_begin_it_anew() -> None:
    """A loop that sets the epoch, as it must with other samplers, goes on all the same."""
    sampler, windows = resumed(2)
    sampler.set_epoch(0)
    assert by_window(sampler) == windows[2:]


def test_a_finished_epoch_is_saved_as_the_beginning_of_the_next() -> None:
    """The usual loop, from the state's epoch on, has no empty pass to make."""
    whole = EffectiveBatchSampler(9, PLAN)
    by_window(whole)
    state = whole.state_dict()
    assert (state["epoch"], state["num_items_done"]) == (1, 0)
    sampler = EffectiveBatchSampler(9, PLAN)
    sampler.load_state_dict(state)
    sampler.set_epoch(state["epoch"])
    assert by_window(sampler) == by_window(whole)
    assert sampler.state_dict()["epoch"] == 2


def test_a_state_of_before_that_was_saved_so_leads_on_too() -> None:
    """One that counts all items as done."""
    sampler, other = EffectiveBatchSampler(9, PLAN), EffectiveBatchSampler(9, PLAN)
    sampler.load_state_dict(sampler.state_dict() | {"num_items_done": 9})
    other.set_epoch(1)
    assert by_window(sampler) == by_window(other)


def test_naming_another_epoch_leaves_that_of_the_checkpoint() -> None:
    """It begins at its beginning."""
    sampler, _ = resumed(2)
    sampler.set_epoch(5)
    assert len(by_window(sampler)) == 3
    assert sampler.epoch == 5


def test_the_epoch_after_one_that_was_resumed_is_whole() -> None:
    """Only the first pass is shorter; a checkpoint at the end of an epoch leads to the next one."""
    other = EffectiveBatchSampler(9, PLAN)
    other.set_epoch(1)
    second = by_window(other)
    for num_windows in (1, 3):
        sampler, _ = resumed(num_windows)
        if num_windows == 1:
            by_window(sampler)
        assert by_window(sampler) == second


def test_a_state_that_was_loaded_can_be_saved_again() -> None:
    """Before, while and after the pass goes on."""
    sampler, _ = resumed(1)
    assert sampler.state_dict()["num_items_done"] == 4
    list(sampler)
    assert [sampler.state_dict(num_windows)["num_items_done"] for num_windows in (0, 1, 2)] == [4, 8, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_items": 10}, "has num_items 10, and this one 9"),
        ({"effective_batch_size": 8}, "has effective_batch_size 8, and this one 4"),
        ({"num_items_done": 10}, "has 10 of 9 items done"),
        ({"num_items_done": -1}, "the state's num_items_done is -1; it must be at least 0"),
        ({"epoch": "1"}, "the state's epoch is '1'; it must be at least 0, a whole number"),
        ({"order": 1}, "the items of epoch 0 are in another order than when the sampler's state was saved: use the"),
    ],
)
def test_a_state_of_something_else_is_refused(change: dict[str, Any], message: str) -> None:
    """What would repeat some items and leave out others does not begin."""
    sampler = EffectiveBatchSampler(9, PLAN)
    with pytest.raises(ConfigError, match=message):
        sampler.load_state_dict(sampler.state_dict() | change)


def test_a_state_that_lacks_something_is_refused() -> None:
    """The message says what."""
    with pytest.raises(ConfigError, match="lacks num_items and effective_batch_size and order: it was saved by"):
        EffectiveBatchSampler(9, PLAN).load_state_dict({"epoch": 0, "num_items_done": 0})
    with pytest.raises(ConfigError, match="the sampler's state is None: give what its state_dict returned"):
        EffectiveBatchSampler(9, PLAN).load_state_dict(None)  # type: ignore[arg-type]


def test_state_can_be_written_as_text() -> None:
    """It holds plain numbers, whatever numbers the sampler was made with."""
    sampler = EffectiveBatchSampler(np.int64(9), PLAN, rank=np.int64(0), seed=np.int64(3))  # type: ignore[arg-type]
    sampler.set_epoch(np.int64(2))  # type: ignore[arg-type]
    sampler.load_state_dict(json.loads(json.dumps(sampler.state_dict())))
    assert sampler.epoch == 2


def test_another_seed_does_not_go_on() -> None:
    """Its windows would overlap with those that were trained."""
    with pytest.raises(ConfigError, match="in another order"):
        EffectiveBatchSampler(9, PLAN, seed=1).load_state_dict(EffectiveBatchSampler(9, PLAN).state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items is 0; it must be at least 1"),
        ({"num_items": 2.5}, "num_items is 2.5; it must be at least 1, a whole number"),
        ({"rank": -1}, "rank is -1; it must be at least 0"),
        ({"rank": 1}, "rank is 1, and the plan has 0 to 0"),
        ({"seed": -1}, "seed is -1; it must be at least 0, a whole number"),
        ({"seed": None}, "seed is None; it must be at least 0"),
        ({"rank": "0"}, "rank is '0'; it must be at least 0, a whole number"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str) -> None:
    """The message names the number and what it may be."""
    with pytest.raises(ConfigError, match=message):
        EffectiveBatchSampler(**USUAL | arguments)


def test_an_epoch_is_a_whole_number() -> None:
    """As are all counts."""
    with pytest.raises(ConfigError, match="epoch is -1; it must be at least 0, a whole number"):
        EffectiveBatchSampler(9, PLAN).set_epoch(-1)


def test_a_rank_too_many_cannot_be_planned_away() -> None:
    """A new plan must have a place for the rank."""
    plan = BatchPlan(effective_batch_size=4, micro_batch_size=2, num_ranks=2)
    with pytest.raises(ConfigError, match="rank is 1, and the plan has 0 to 0"):
        EffectiveBatchSampler(9, plan, rank=1).set_plan(PLAN)


def test_a_loader_uses_it_as_batch_sampler() -> None:
    """Its batches are those items, an epoch after another, each window told."""
    sampler = EffectiveBatchSampler(9, PLAN)
    other = EffectiveBatchSampler(9, PLAN)
    loader: DataLoader[int] = DataLoader(range(9), batch_sampler=sampler)  # type: ignore[arg-type]
    assert len(loader) == 5
    for _ in range(2):
        expected = by_window(other)
        assert [[batch.tolist() for batch in window] for window in sampler.windows(loader)] == expected


def test_another_loader_is_refused() -> None:
    """One that makes up its own batches would mix the windows."""
    loader: DataLoader[int] = DataLoader(range(9), batch_size=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the loader gives more than the 0 micro-batches of this sampler: make it"):
        list(EffectiveBatchSampler(9, PLAN).windows(loader))


def test_a_rank_without_items_skips_a_window() -> None:
    """A last window of one item is computed by one rank; the other is told of an empty one."""
    plan = BatchPlan(effective_batch_size=4, micro_batch_size=2, num_ranks=2)
    first, second = on_all_ranks(5, plan, shuffle=False)
    assert first == [[[0, 1]], [[4]]]
    assert second == [[[2, 3]], []]


def test_fewer_items_than_ranks_leave_a_rank_with_nothing() -> None:
    """It is told of the window all the same, so that it can take part."""
    first, second = on_all_ranks(1, BatchPlan(effective_batch_size=4, micro_batch_size=2, num_ranks=2))
    assert first == [[[0]]]
    assert second == [[]]


def test_windows_stay_apart_where_ranks_have_fewer_micro_batches() -> None:
    """Uneven micro-batches of one item leave a rank with fewer of them."""
    plan = BatchPlan(effective_batch_size=3, micro_batch_size=1, num_ranks=2)
    first, second = on_all_ranks(6, plan, shuffle=False)
    assert first == [[[0], [2]], [[3], [5]]]
    assert second == [[[1]], [[4]]]


def test_indices_are_plain_numbers() -> None:
    """Data sets index lists and dictionaries with them."""
    assert {type(index) for index in flat(EffectiveBatchSampler(9, PLAN))} == {int}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_epoch_goes_on_whatever_fetches_it(num_workers: int) -> None:
    """A loader with workers asks for the sampler's iterator twice, and takes the second."""
    plan = BatchPlan(effective_batch_size=4, micro_batch_size=2)
    state = EffectiveBatchSampler(12, plan, shuffle=False).state_dict() | {"num_items_done": 8}
    sampler = EffectiveBatchSampler(12, plan, shuffle=False)
    sampler.load_state_dict(state)
    items: Any = range(12)
    loader: Any = DataLoader(items, batch_sampler=sampler, num_workers=num_workers)
    assert [batch.tolist() for batch in loader] == [[8, 9], [10, 11]]
    assert next(iter(loader)).tolist() == [0, 1]
