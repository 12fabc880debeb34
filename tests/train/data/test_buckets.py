"""Windows of similar lengths waste less, and are still random."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carpool.errors import ConfigError
from carpool.train.batch_plan import BatchPlan
from carpool.train.data.buckets import LengthBucketSampler
from carpool.train.data.windows import EffectiveBatchSampler, WindowSampler
from tests.train.data.strategies import lengths, plans

PLAN = BatchPlan(effective_batch_size=64, micro_batch_size=16)
TEXTS = np.random.default_rng(0).lognormal(3, 0.8, 6400).astype(int) + 1


def windows_of(samplers: list[WindowSampler]) -> list[list[int]]:
    """The items of each window on all ranks."""
    windows = zip(*[sampler.windows(sampler) for sampler in samplers], strict=True)
    return [list(chain.from_iterable(chain.from_iterable(window))) for window in windows]


def ranks(texts: list[int], plan: BatchPlan, pool_windows: int, *, shuffle: bool = True) -> list[WindowSampler]:
    """The samplers of all ranks."""
    return [
        LengthBucketSampler(texts, plan, rank=rank, pool_windows=pool_windows, shuffle=shuffle)
        for rank in range(plan.num_ranks)
    ]


@given(lengths, plans(), st.integers(1, 5), st.booleans())
def test_each_item_comes_once_in_windows_of_the_effective_batch(
    texts: list[int], plan: BatchPlan, pool_windows: int, shuffle: bool
) -> None:
    """Sorting neither loses nor repeats anything, and only the last window is short."""
    windows = windows_of(ranks(texts, plan, pool_windows, shuffle=shuffle))
    assert sorted(chain.from_iterable(windows)) == list(range(len(texts)))
    assert all(len(window) == plan.effective_batch_size for window in windows[:-1])


@given(lengths, plans())
def test_windows_sorted_alone_are_random_ones(texts: list[int], plan: BatchPlan) -> None:
    """With a pool of one window, the optimiser sees what it would see without sorting."""
    plain = [EffectiveBatchSampler(len(texts), plan, rank=rank) for rank in range(plan.num_ranks)]
    expected = [sorted(window) for window in windows_of([*plain])]
    assert [sorted(window) for window in windows_of(ranks(texts, plan, 1))] == expected


@given(lengths, plans(), st.integers(1, 5))
def test_windows_do_not_depend_on_ranks_and_micro_batches(texts: list[int], plan: BatchPlan, pool_windows: int) -> None:
    """So that a checkpoint goes on elsewhere."""
    alone = plan.with_ranks(1).with_micro_batch(plan.effective_batch_size)
    first, second = (windows_of(ranks(texts, each, pool_windows)) for each in (plan, alone))
    assert [sorted(window) for window in first] == [sorted(window) for window in second]


@given(lengths, plans(), st.integers(1, 5))
def test_padding_is_that_of_the_micro_batches(texts: list[int], plan: BatchPlan, pool_windows: int) -> None:
    """What is told is what the loaders of all ranks will pad."""
    samplers = ranks(texts, plan, pool_windows)
    told = LengthBucketSampler(texts, plan, pool_windows=pool_windows).padding()
    padded = [len(batch) * max(texts[item] for item in batch) for sampler in samplers for batch in sampler]
    assert told.num_tokens == sum(texts)
    assert told.num_padded_tokens == sum(padded)


def test_the_more_windows_are_sorted_together_the_less_is_padded() -> None:
    """From random order to wide pools."""
    shuffled = EffectiveBatchSampler(len(TEXTS), PLAN)
    padded = sum(len(batch) * TEXTS[batch].max() for batch in shuffled)
    waste = [1 - TEXTS.sum() / padded]
    waste += [LengthBucketSampler(TEXTS, PLAN, pool_windows=num).padding().waste for num in (1, 4, 16, 100)]
    assert waste == sorted(waste, reverse=True)
    assert waste[0] > 0.6
    assert waste[1] < 0.5
    assert waste[-1] < 0.05


def test_windows_come_in_no_order_of_length() -> None:
    """The means of successive windows are not correlated, although each window is of one length."""
    sampler = LengthBucketSampler(TEXTS, PLAN)
    means = np.log([TEXTS[list(chain.from_iterable(window))].mean() for window in sampler.windows(sampler)])
    assert means.std() > 0.5
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.25


def test_an_item_has_other_neighbours_each_epoch() -> None:
    """Windows are put together anew."""
    sampler = LengthBucketSampler(TEXTS, PLAN)
    together = []
    for _ in range(2):
        passing = (set(chain.from_iterable(window)) for window in sampler.windows(sampler))
        together.append(next(window for window in list(passing) if 0 in window))
    assert len(together[0] & together[1]) < 16


def test_longest_micro_batch_of_a_window_is_first() -> None:
    """If it does not fit into memory, that shows before others were computed."""
    sampler = LengthBucketSampler(TEXTS, PLAN)
    for window in sampler.windows(sampler):
        longest = [TEXTS[batch].max() for batch in window]
        assert longest == sorted(longest, reverse=True)


def test_ranks_compute_about_the_same_length_at_a_time() -> None:
    """No rank has all the long items of a window, so that none waits for another."""
    plan = BatchPlan(effective_batch_size=8, micro_batch_size=2, num_ranks=2)
    first, second = ranks([8, 7, 6, 5, 4, 3, 2, 1], plan, 1, shuffle=False)
    assert (list(first), list(second)) == ([[0, 1], [4, 5]], [[2, 3], [6, 7]])


def test_lengths_are_part_of_what_a_checkpoint_goes_by() -> None:
    """Other lengths would make other windows of the same number of items."""
    state = LengthBucketSampler([1, 2, 3, 4] * 9, PLAN).state_dict()
    with pytest.raises(ConfigError, match="in another order"):
        LengthBucketSampler([4, 3, 2, 1] * 9, PLAN).load_state_dict(state)


def test_a_pool_has_a_window() -> None:
    """None at all cannot be sorted."""
    with pytest.raises(ConfigError, match="pool_windows is 0; it must be at least 1, a whole number"):
        LengthBucketSampler([1], PLAN, pool_windows=0)
