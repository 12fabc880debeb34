"""What is run before a model is ready."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from carpool.core import Policy
from carpool.errors import ConfigError
from carpool.models.model import Admitted, Model, ModelInfo
from carpool.serve.warm import MAX_TOKENS, Shape, WarmUps, ragged_totals, warm_batches, warm_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


class Padding(Model):
    """A model of texts, padded to multiples of 16, or packed into rows of multiples of 64 tokens."""

    def __init__(
        self, *, longest: int | None = 64, ragged: bool = False, examples: bool = True, concurrent: bool = False
    ) -> None:
        self._longest = longest
        self._ragged = ragged
        self._examples = examples
        self._concurrent = concurrent

    @property
    def concurrent(self) -> bool:
        """Tell whether workers may share it."""
        return self._concurrent

    @property
    def info(self) -> ModelInfo:
        """Say what it is."""
        return ModelInfo(name="padding", kind="encoder", target="padding", max_length=self._longest)

    @property
    def has_length(self) -> bool:
        """Tell that items differ in length, where they do."""
        return self._longest is not None

    @property
    def ragged(self) -> bool:
        """Tell whether it packs."""
        return self._ragged

    def load(self) -> None:
        """Do nothing."""

    def admit(self, item: object) -> Admitted:
        """Take anything."""
        return Admitted(item)

    def run(self, payloads: Sequence[Any]) -> Sequence[Any]:
        """Give back what is given."""
        return payloads

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Give items of a length."""
        del seed
        if not self._examples:
            message = "there are none"
            raise ConfigError(message)
        return [length] * num_items

    def padded_length(self, length: int) -> int:
        """Round up to 16."""
        return -(-length // 16) * 16

    def rounded_total(self, num_tokens: int) -> int:
        """Round up to 64."""
        return -(-num_tokens // 64) * 64


def test_every_length_is_run_alone_and_full_batches_of_lengths_that_double() -> None:
    """A client that is alone meets no shape for the first time."""
    shapes = warm_shapes(Padding(), Policy(max_batch_size=8))
    assert shapes[:4] == [Shape(1, length) for length in (16, 32, 48, 64)]
    assert shapes[4:] == [Shape(8, length) for length in (16, 32, 64)]


def test_every_bucket_of_batch_sizes_is_run_at_every_length() -> None:
    """The smallest first, then from the largest; one that the token budget leaves no room for is not run."""
    policy = Policy(max_batch_size=8, batch_size_buckets=(2, 4, 8), token_budget=256)
    shapes = warm_shapes(Padding(longest=64), policy)
    assert [shape for shape in shapes if shape.length == 16] == [Shape(2, 16), Shape(8, 16), Shape(4, 16)]
    assert {shape.size for shape in shapes if shape.length == 64} == {2, 4}
    assert all(shape.size * shape.length <= 256 for shape in shapes)
    assert len(set(shapes)) == len(shapes)


def test_a_full_batch_of_long_items_is_run_as_far_as_it_is_cheap() -> None:
    """Where nobody says which sizes there are."""
    shapes = warm_shapes(Padding(longest=1024), Policy(max_batch_size=64))
    assert max(shape.size * shape.length for shape in shapes) <= MAX_TOKENS
    assert Shape(MAX_TOKENS // 1024, 1024) in shapes


def test_items_without_length_have_two_shapes() -> None:
    """One, and a full batch."""
    assert warm_shapes(Padding(longest=None), Policy(max_batch_size=32)) == [Shape(1, 0), Shape(32, 0)]
    assert warm_shapes(Padding(longest=None), Policy(max_batch_size=1)) == [Shape(1, 0)]


def test_packed_rows_are_run_at_totals_up_to_the_most() -> None:
    """Up to the token budget, or what a full batch can hold."""
    model = Padding(ragged=True)
    policy = Policy(max_batch_size=32, token_budget=256)
    assert ragged_totals(model, policy) == (64, 128, 192, 256)
    shapes = warm_shapes(model, policy)
    assert [model.rounded_total(shape.size * shape.length) for shape in shapes] == [64, 128, 192, 256]
    assert all(shape.length <= 64 for shape in shapes)
    assert ragged_totals(model, Policy(max_batch_size=2)) == (64, 128)


def test_of_many_totals_few_are_run() -> None:
    """Each by so much longer than the one before, the longest among them."""
    model, policy = Padding(ragged=True), Policy(max_batch_size=256, token_budget=8192)
    totals = [shape.size * shape.length for shape in warm_shapes(model, policy)]
    assert len(ragged_totals(model, policy)) == 128
    assert len(totals) < 32
    assert model.rounded_total(totals[-1]) == 8192


def test_workers_that_share_a_model_share_its_warming_up() -> None:
    """Each batch is run by one of them, whoever asks next; one that comes later finds nothing left."""
    model, policy, warm_ups = Padding(concurrent=True), Policy(max_batch_size=8), WarmUps()
    one, other = warm_ups.batches(model, policy), warm_ups.batches(model, policy)
    found = [next(one), next(other), next(one)]
    assert len([*found, *other, *one]) == len(warm_shapes(model, policy))
    assert list(warm_ups.batches(model, policy)) == []


def test_workers_with_models_of_their_own_warm_up_each() -> None:
    """And so does one whose model is loaded anew."""
    policy, warm_ups = Policy(max_batch_size=8), WarmUps()
    for model in (first := Padding(), Padding(), first):
        assert len(list(warm_ups.batches(model, policy))) == len(warm_shapes(model, policy))


def test_warming_up_ends_when_its_time_is_up_and_says_what_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """And tells how far it is now and then."""
    clock = iter(np.arange(0, 100, 1.5))
    with caplog.at_level(logging.INFO, "carpool.serve"):
        batches = list(warm_batches(Padding(), Policy(max_batch_size=8), limit_s=6.0, now=lambda: float(next(clock))))
    assert 1 <= len(batches) < 7
    assert f"{7 - len(batches)} of 7 shapes are not warmed up after 6 s" in caplog.text
    assert "warming up, " in caplog.text


def test_no_time_runs_nothing_and_no_examples_run_nothing() -> None:
    """A model without examples is served all the same."""
    assert list(warm_batches(Padding(), Policy(), limit_s=0.0)) == []
    assert list(warm_batches(Padding(examples=False), Policy())) == []
