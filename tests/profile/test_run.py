"""Whole profiles, of functions in this file and of a small torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carpool.errors import ConfigError, ModelError
from carpool.models.target import wrap
from carpool.profile.artefact import Profile, load_profile
from carpool.profile.options import ProfileOptions
from carpool.profile.report import write_report
from carpool.profile.run import profile_target
from carpool.profile.session import Session
from carpool.report.progress import SilentProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from carpool.profile.measure import Sweep

QUICK = ProfileOptions(batch_sizes=(1, 2, 4, 8), budget_s=1.0, probe_memory=False)

TINY = '''
import torch


class Tiny(torch.nn.Module):
    """Two layers, and the examples to measure them with."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.GELU(), torch.nn.Linear(128, 8))
        self.examples = [torch.randn(64) for _ in range(16)]

    def forward(self, x):
        return self.layers(x)
'''


class Doubler:
    """Doubles numbers, one call after another; may be told to misbehave."""

    examples = tuple(float(i) for i in range(16))

    def __init__(self, misbehave: Callable[[list[float]], Any] = lambda batch: None) -> None:
        self._misbehave = misbehave

    def __call__(self, batch: list[float]) -> Sequence[float]:
        """Double each."""
        wrong = self._misbehave(batch)
        return [2.0 * number for number in batch] if wrong is None else wrong


def raises_at_four(batch: list[float]) -> None:
    """Fail on batches of exactly four."""
    if len(batch) == 4:
        raise ValueError("four is unlucky")


def errors(profile: Profile) -> dict[int, str]:
    """The reasons of failed batch sizes."""
    return {one.batch_size: one.reason for one in profile.skipped if one.kind == "error"}


def test_torch_module_is_profiled_from_end_to_end(tmp_path: Path) -> None:
    """Times, memory in another process, FLOP, parts and quality of a real module; written, read back, drawn."""
    path = tmp_path / "tiny.py"
    path.write_text(TINY)
    options = ProfileOptions(batch_sizes=(1, 2, 4, 8, 16), budget_s=12.0)
    profile = profile_target(f"{path}:Tiny", options)
    assert profile.complete
    assert [point.batch_size for point in profile.points] == [1, 2, 4, 8, 16]
    assert all(point.low_s <= point.time_s <= point.high_s for point in profile.points)
    # 2 x (64 x 128 + 128 x 8) FLOP an item, whatever the machine.
    assert profile.peaks is not None
    one = profile.points[0]
    assert one.mfu == pytest.approx(2 * (64 * 128 + 128 * 8) / one.time_s / profile.peaks.flops_per_s)
    assert profile.cost_model is not None
    assert profile.cost_model.memory is not None
    assert {probe.outcome for probe in profile.memory.probes} == {"fits"}
    assert profile.quality is not None
    assert profile.quality.dependent_sizes == ()
    assert {parts.launch_is for parts in profile.breakdown} == {"smallest call"}
    assert (profile.bound is not None) == profile.trust.times_sure  # on a busy machine it is withheld
    written = write_report(profile, tmp_path / "out")
    assert {file.name for file in written} == {"profile.json", "report.html", "speed.png", "memory.png", "overhead.png"}
    assert load_profile(tmp_path / "out" / "profile.json") == profile


def test_model_that_raises_at_one_size_keeps_the_rest() -> None:
    """Batch 4 fails with its error; all others have times and a fit."""
    profile = profile_target(Doubler(raises_at_four), QUICK)
    assert [point.batch_size for point in profile.points] == [1, 2, 8]
    assert "ValueError: four is unlucky" in errors(profile)[4]
    assert profile.failed
    assert profile.cost_model is not None


def test_too_few_results_are_named_with_both_counts() -> None:
    """A model that answers once for a batch says so at every size above 1."""
    profile = profile_target(Doubler(lambda batch: [0.0]), QUICK)
    assert [point.batch_size for point in profile.points] == [1]
    assert "the model returned 1 result for 8 items" in errors(profile)[8]
    assert profile.cost_model is None


def test_nan_is_an_error_with_its_remedy() -> None:
    """NaN in large batches ends those sizes, with how many items and what to look at."""
    profile = profile_target(Doubler(lambda batch: [float("nan")] * 8 if len(batch) == 8 else None), QUICK)
    assert errors(profile) == {
        8: "8 of 8 items failed: the model returned NaN for this item: "
        "check the item, or the model's dtype for overflow"
    }


def test_model_that_always_fails_gives_its_error() -> None:
    """With nothing measured there is no profile, only the model's own words."""

    def fail(batch: list[float]) -> None:
        raise ValueError("always")

    with pytest.raises(ModelError, match=r"no batch of Doubler could be measured: .*always"):
        profile_target(Doubler(fail), QUICK)


def test_dependence_on_batch_mates_is_said() -> None:
    """A model that subtracts the batch's mean is flagged in words."""
    profile = profile_target(Doubler(lambda batch: list(np.array(batch) - np.mean(batch))), QUICK)
    assert profile.quality is not None
    assert profile.quality.dependent_sizes == (2, 4, 8)
    assert any("DEPENDS on its batch-mates at batch sizes 2, 4 and 8" in sentence for sentence in profile.sentences)


def test_object_that_cannot_be_pickled_is_profiled_without_memory() -> None:
    """What can't be sent to another process is measured all the same, and the remedy is said."""
    options = ProfileOptions(batch_sizes=(1, 2), budget_s=1.0)
    profile = profile_target(Doubler(lambda batch: None), options)
    assert profile.points
    assert "name it as a TARGET, such as file.py:name" in profile.memory.unavailable


def test_interrupt_keeps_the_sizes_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after some samples gives a profile that says it is not complete."""

    def interrupt_after_ten(self: Session, sweep: Sweep) -> None:
        if sum(len(point.samples_s) for point in sweep.points) >= 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_tell_samples", interrupt_after_ten)
    profile = profile_target(Doubler(), QUICK, SilentProgress())
    assert not profile.complete
    assert sum(point.num_samples for point in profile.points) == 10
    assert any(sentence.startswith("It was stopped before its end") for sentence in profile.sentences)
    assert profile.cost_model is not None


def test_target_without_examples_names_the_remedy() -> None:
    """Without items there is nothing to measure with."""
    with pytest.raises(ConfigError, match="give it `examples`"):
        profile_target(wrap(lambda batch: batch, "bare"), QUICK)


def test_lengths_of_items_without_length_are_refused() -> None:
    """Asking for lengths of plain numbers is wrong use."""
    with pytest.raises(ConfigError, match="leave --lengths out"):
        profile_target(Doubler(), ProfileOptions(lengths=(16,), budget_s=1.0, probe_memory=False))


def test_lengths_come_from_the_examples_where_none_can_be_made() -> None:
    """A function with `length` and a list of examples is measured at lengths that the list has."""

    class Texts:
        examples = tuple("x" * size for size in (3, 5, 9) * 8)

        def length(self, item: str) -> int:
            return len(item)

        def __call__(self, batch: list[str]) -> list[float]:
            return [float(len(text)) for text in batch]

    profile = profile_target(Texts(), QUICK)
    assert profile.lengths == (3, 5, 9)
    assert profile.typical_length == 5
    assert profile.mix


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_sizes": (0, 1)}, "a batch size of 0 can't be measured: it must be at least 1"),
        ({"batch_sizes": ()}, "there are no batch sizes"),
        ({"lengths": (-3,)}, "a length of -3"),
        ({"budget_s": 0.1}, "a budget of 0.1 s"),
        ({"memory_limit_bytes": 0}, "a memory limit of 0 bytes"),
    ],
)
def test_wrong_options_name_value_limit_and_remedy(options: dict[str, Any], message: str) -> None:
    """What can't be measured is refused before anything is loaded."""
    with pytest.raises(ConfigError, match=message):
        ProfileOptions(**options)
