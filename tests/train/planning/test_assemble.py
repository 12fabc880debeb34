"""A plan as it is put together: its sentences, doubts, tables, pictures and page."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch

from carpool.cli.output import to_json
from carpool.errors import ConfigError
from carpool.train.autosize.throughput import summarise
from carpool.train.planning.assemble import TrainPlanOptions, assemble
from carpool.train.planning.page import build_page, write_pages
from carpool.train.planning.plots import pictures
from carpool.train.planning.tables import probes_table, scaling_table, times_table, trade_off_table
from carpool.train.planning.trade_off import Noise
from tests.train.planning.made_up import MIB, micro_batch, setup, throughput

if TYPE_CHECKING:
    from pathlib import Path

    from carpool.train.planning.plan import TrainPlan

NOISE = Noise(scale=200.0, low=100.0, high=400.0, source="measured over 9 steps of 8 items")


def plan(
    effective: int = 128, *, noise: Noise | None = NOISE, made: dict[str, Any] | None = None, **options: Any
) -> TrainPlan:
    """Of 1,000 items, 64 at a time; the rate is for 8."""
    sizes = (32, 64, 256, 512)
    asked = TrainPlanOptions(
        effective_batch_size=effective, batch_sizes=sizes, noise=None if noise is None else noise.scale, **options
    )
    of = setup(num_items=1000, **(made or {}))
    return assemble("train.py:setup", of, micro_batch(), throughput(), asked, noise=noise)


def text(made: TrainPlan) -> str:
    """All that it says."""
    return "\n".join((*made.sentences, *made.doubts))


def test_it_says_how_to_train_and_what_that_takes() -> None:
    """Micro-batches, memory, times, hyper-parameters."""
    said = text(plan())
    assert "Train with 2 micro-batches of 64 items for an effective batch of 128." in said
    assert (
        "The largest micro-batch that was seen to fit is 64: it takes 164 MiB of 164 MiB (as asked for); 65 do not"
        in said
    )
    assert "A step takes 152 ms" in said
    assert "1,000 items takes 1.19 s in 8 steps" in said
    assert "were chosen for" not in said
    assert "Warm the learning rate up over 5 epochs = 40 steps from 0.0625 of it" in said


def test_it_says_what_the_noise_scale_makes_of_it() -> None:
    """Which batch is fastest, how sure that is, and where the rule for the rate goes too far."""
    made = plan()
    said = text(made)
    assert "The noise scale is 200 items (100 to 400), measured over 9 steps of 8 items" in said
    assert "Of the batches in the table" in said
    assert "by the interval of the noise scale it may be any from" in said
    assert made.optimal is not None
    assert f"Over all sizes {made.optimal.batch_size} is fastest" in said
    growth = (1 + 200 / 8) / (1 + 200 / 128)
    assert f"about {growth:.3g} times that at 8, not 16 times" in said


def test_ranks_share_the_work() -> None:
    """One micro-batch each; their exchange is not in the times, and that is said."""
    made = plan(num_ranks=2)
    assert "Train with 1 micro-batch of 64 items on each of 2 ranks" in made.sentences[0]
    assert "What ranks tell each other was not measured" in trade_off_table(made).to_text()


def test_without_a_base_the_hyper_parameters_stay() -> None:
    """And it says what would scale them."""
    made = plan(made={"base_batch_size": None})
    assert (made.scaling, scaling_table(made)) == (None, None)
    assert "Give --base-batch, or base_batch_size in the setup" in text(made)
    assert all(row.learning_rate is None for row in made.trade_off.rows)


def test_a_base_that_is_asked_for_goes_before_that_of_the_setup() -> None:
    """It may be known better."""
    made = plan(base_batch_size=128)
    assert made.base_batch_size == 128
    assert "were chosen for this effective batch" in text(made)


def test_decays_that_leave_nothing_follow_the_power_form_and_that_is_said() -> None:
    """Adam's, at 16 times the batch."""
    of = setup(num_items=1000)
    adam = torch.optim.Adam(of.model.parameters(), lr=0.01)
    made = plan(made={"optimizer": adam, "model": of.model})
    assert made.scaling is not None
    assert made.scaling.rule == "square_root"
    assert made.scaling.after("beta1") == pytest.approx(0.9**16)
    assert "that average is shorter than a step" in text(made)
    assert adam.param_groups[0]["lr"] == 0.01


def test_an_optimiser_that_no_scaling_is_known_for_keeps_its_values() -> None:
    """And the plan says so, for one that sets its own rate."""
    of = setup(num_items=1000)
    made = plan(made={"model": of.model, "optimizer": torch.optim.Adadelta(of.model.parameters())})
    assert (made.scaling is None) == any("left as they are" in doubt for doubt in made.doubts)


def test_smaller_micro_batches_that_are_faster_are_told_of() -> None:
    """Where an item of a large micro-batch costs more than one of a small one."""
    passes = tuple((n, (n * (1e-3 if n <= 16 else 2e-3),) * 3) for n in (4, 8, 16, 32, 64))
    slow = summarise(passes, (1e-4,) * 3, measured_on={})
    asked = TrainPlanOptions(effective_batch_size=64)
    made = assemble("t", setup(num_items=1000), micro_batch(), slow, asked)
    assert made.chosen.plan.micro_batch_size <= 32
    assert "are clearly faster than fewer and larger ones" in text(made)


def test_times_that_no_fit_follows_are_doubted() -> None:
    """Something else ran meanwhile."""
    wild = summarise(((1, (0.1,)), (4, (0.01,)), (16, (0.5,)), (64, (0.05,))), (1e-3,), measured_on={})
    made = assemble("t", setup(num_items=1000), micro_batch(), wild, TrainPlanOptions(effective_batch_size=64))
    assert any("The fit of times misses sizes" in doubt for doubt in made.doubts)


def test_a_single_timed_size_is_doubted() -> None:
    """Others are taken to grow with their items."""
    alone = throughput(sizes=(64,))
    made = assemble("t", setup(num_items=1000), micro_batch(), alone, TrainPlanOptions(effective_batch_size=64))
    assert any("Only one size of micro-batch was timed" in doubt for doubt in made.doubts)
    assert times_table(made) is None


def test_steps_at_the_base_make_times_absolute() -> None:
    """In the table."""
    made = plan(base_steps=3000)
    assert made.target is not None
    assert "time to it" in trade_off_table(made).to_text()


@pytest.mark.parametrize(
    ("options", "made", "said"),
    [
        ({"effective": 1001}, {}, "an effective batch of 1,001 is more than the 1,000 items of the data"),
        ({"effective": 2, "num_ranks": 4}, {}, "an effective batch of 2 leaves some of 4 ranks without an item"),
        ({"effective": 0}, {}, "effective_batch_size is 0; it must be at least 1"),
        ({"base_steps": 5}, {"base_batch_size": None}, "nothing says at which batch the steps are counted"),
    ],
)
def test_what_cannot_be_planned_is_refused(options: dict[str, Any], made: dict[str, Any], said: str) -> None:
    """With the values and the remedy."""
    with pytest.raises(ConfigError, match=said):
        plan(**options, made=made)


def test_a_process_that_keeps_what_it_frees_is_warned_of() -> None:
    """It would pass the limit that the search kept to."""
    found = replace(micro_batch(), usual_bytes=400 * MIB)
    made = assemble("t", setup(num_items=1000), found, throughput(), TrainPlanOptions(effective_batch_size=128))
    assert any("call carpool.train.give_back_freed_memory() before" in doubt for doubt in made.doubts)


def test_batch_norm_is_warned_of_where_a_window_has_several_micro_batches() -> None:
    """Its statistics are a micro-batch's."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    made = {"model": model, "optimizer": torch.optim.SGD(model.parameters(), lr=0.02)}
    assert any("BatchNorm (1) sees micro-batches of 64" in doubt for doubt in plan(128, made=made).doubts)
    assert not any("BatchNorm" in doubt for doubt in plan(32, made=made).doubts)


def test_the_table_marks_the_plan_and_says_what_is_left_out() -> None:
    """Rows for all batches, and a column for each thing that is known."""
    shown = trade_off_table(plan())
    assert shown.highlight is not None
    assert shown.rows[shown.highlight][0] == 128
    assert [row[0] for row in shown.rows] == [32, 64, 128, 256, 512]
    plain = trade_off_table(plan(noise=None))
    assert not any("target" in column.title for column in plain.columns)
    assert "Which batch reaches a target first depends on the noise scale" in plain.to_text()


def test_what_was_measured_is_shown() -> None:
    """Probes by size, and times beside their fit."""
    assert "passed the limit" in probes_table(plan()).to_text()
    times = times_table(plan())
    assert times is not None
    assert "4 ms more, once a window" in times.to_text()
    scaling = scaling_table(plan())
    assert scaling is not None
    assert "Hyper-parameters for 128 in place of 8 items" in scaling.to_text()


def test_the_page_and_its_pictures_are_written(tmp_path: Path) -> None:
    """Beside each other, under the page's name."""
    written = write_pages(plan(), tmp_path / "out" / "mine.html", "Measured somewhere.")
    assert {path.name for path in written} == {"mine.html", "mine-time.png", "mine-batch.png"}
    page = written[0].read_text()
    assert "Training plan for train.py:setup" in page
    assert "Measured somewhere." in page
    assert "Fewer steps, or fewer examples" in page


def test_a_plan_without_noise_scale_or_a_line_of_memory_has_a_page_too() -> None:
    """With what there is."""
    bare = replace(plan(noise=None, made={"base_batch_size": None}), micro_batch=replace(micro_batch(), memory=None))
    drawn = pictures(bare)
    assert set(drawn) == {"train-plan-time"}
    assert "Training plan for" in build_page(bare, drawn).to_html()


def test_a_plan_is_a_document() -> None:
    """Numbers that JSON lacks become null."""
    endless = replace(NOISE, high=math.inf)
    document = msgspec.json.decode(to_json(plan(noise=endless)))
    assert document["noise"]["high"] is None
    assert document["trade_off"]["rows"][2]["plan"]["micro_batch_size"] == 64
    assert document["micro_batch"]["size"] == 64
