"""Training at several effective batches, really, on a line through noisy points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carpool.errors import ConfigError
from carpool.train.planning.compare import compare_batches, ruled_rate, valid_of_an_item
from tests.train.planning.made_up import setup

if TYPE_CHECKING:
    from carpool.train.planning.curve import Reached

TARGET = 0.4  # the noise alone is 0.25


def test_the_curve_of_real_runs_is_told_and_drawn() -> None:
    """Larger batches take fewer steps and more examples; the noise is measured on the way."""
    told: list[Reached] = []
    found = compare_batches(
        lambda: setup(num_items=512),
        (32, 8, 2, 128),
        target=TARGET,
        most_micro_batch=32,
        most_examples=20_000,
        watch=told.append,
    )
    assert [run.batch_size for run in found.runs] == [2, 8, 32, 128]
    assert [run.batch_size for run in told] == [8, 32, 128, 2]
    steps = [run.num_steps for run in found.runs]
    assert steps == sorted(steps, reverse=True)
    assert found.runs[0].num_examples < found.runs[-1].num_examples
    assert found.ruled == pytest.approx((0.005, 0.02, 0.08, 0.32))
    assert found.noise.num_windows > 0
    text = found.table().to_text()
    assert "its critical batch is" in text
    assert "Measured on the way: noise scale" in text
    picture = found.picture()
    assert picture.png.startswith(b"\x89PNG")
    assert "Steps against examples" in picture.alt


def test_a_target_out_of_reach_is_told_with_what_was_tried() -> None:
    """Below the noise nothing gets."""
    with pytest.raises(ConfigError, match=r"200 examples in batches of 8 do not reach 0\.001, at rates from 0\.02"):
        compare_batches(setup, (8, 16, 32), target=0.001, most_micro_batch=8, most_examples=200)


@pytest.mark.parametrize(
    ("sizes", "changes", "said"),
    [
        ((8, 16, 16), {}, "runs at 2 effective batches do not tell the curve"),
        ((), {}, "runs at 0 effective batches"),
        ((0, 8, 16), {}, "an effective batch is 0; it must be at least 1"),
        ((4, 8, 16), {"most_micro_batch": 0}, "most_micro_batch is 0"),
        ((4, 8, 16), {"most_examples": -1}, "most_examples is -1"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(
    sizes: tuple[int, ...], changes: dict[str, Any], said: str
) -> None:
    """With its value."""
    options: dict[str, Any] = {"most_micro_batch": 8, "most_examples": 100} | changes
    with pytest.raises(ConfigError, match=said):
        compare_batches(setup, sizes, target=1.0, **options)


def test_a_setup_must_say_which_batch_its_rate_is_for() -> None:
    """The rule begins there."""
    with pytest.raises(ConfigError, match="give it base_batch_size"):
        compare_batches(
            lambda: setup(base_batch_size=None), (8, 16, 32), target=1.0, most_micro_batch=8, most_examples=200
        )


def test_the_rule_gives_the_rate_for_another_batch() -> None:
    """SGD's is linear; at the base it stays."""
    assert ruled_rate(setup(), 32) == pytest.approx(0.08)
    assert ruled_rate(setup(), 8) == pytest.approx(0.02)


def test_valid_items_of_an_item_are_counted_in_whole_micro_batches() -> None:
    """An item of these has three."""
    assert valid_of_an_item(setup(), 8) == 1.0
    assert valid_of_an_item(setup(num_items=10, count=lambda batch: 3 * len(batch[0])), 4) == 3.0
    with pytest.raises(ConfigError, match="have no valid item: correct count, or the loader"):
        valid_of_an_item(setup(count=lambda batch: 0), 4)
