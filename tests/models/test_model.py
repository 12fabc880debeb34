"""What every model can be asked, and what it answers unless it knows better."""

from collections.abc import Sequence
from typing import Any

import pytest

from carpool.errors import ConfigError
from carpool.models.model import Admitted, Model, ModelInfo, Results, Stages
from carpool.models.target import wrap


class Upper(Model):
    """The smallest model: only what is abstract."""

    @property
    def info(self) -> ModelInfo:
        """A name."""
        return ModelInfo(name="upper", kind="function", target="here.py:Upper")

    def load(self) -> None:
        """Load nothing."""

    def admit(self, item: object) -> Admitted:
        """Take everything."""
        return Admitted(item)

    def run(self, payloads: Sequence[Any]) -> Results:
        """Upper-case each."""
        return [str(payload).upper() for payload in payloads]


def test_defaults_are_those_of_a_model_without_lengths() -> None:
    """No stages, no formula, no padding, nothing to close."""
    model = Upper()
    model.close()
    assert model.admit("a").length == 1
    assert (model.has_length, model.stages, model.flops(2, 3), model.padded_length(7)) == (False, None, None, 7)


def test_model_without_examples_names_the_remedy() -> None:
    """The target and what to add to it."""
    with pytest.raises(ConfigError, match=r"here\.py:Upper offers no example items; give the target an attribute"):
        Upper().examples(3)


def test_stages_run_one_after_the_other() -> None:
    """Each takes what the one before it gave."""
    stages = Stages(
        prepare=lambda payloads: [*payloads, "prepared"],
        to_device=lambda batch: [*batch, "moved"],
        compute=lambda batch: [*batch, "computed"],
        to_host=lambda batch: [*batch, "back"],
        finish=lambda batch: [*batch, "finished"],
    )
    assert stages.run(["a"]) == ["a", "prepared", "moved", "computed", "back", "finished"]


def test_class_of_models_is_made_when_wrapped() -> None:
    """A TARGET may name a `Model` of the user's own."""
    assert isinstance(wrap(Upper), Upper)
