"""Models that fail in ways of their own: whoever waits is answered, and the batcher goes on."""

import asyncio
import sys
from collections.abc import Callable
from typing import NoReturn

import numpy as np
import pytest

from carpool import Batcher
from carpool.errors import CarpoolError, ConfigError, InvalidItem, ModelError, WrongResultCount
from tests.runtime.fakes import double


class TwoPartError(CarpoolError):
    """A class of the user's own, whose constructor takes what its `args` do not hold."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"{what} in {where}")
        self.where = where


class SystemTroubleError(CarpoolError, OSError):
    """Built on a class of Python's that is laid out otherwise."""


class SilentError(Exception):
    """It can't even say what it is."""

    def __str__(self) -> str:
        """Fail."""
        raise ValueError("no words")


def raising(make: Callable[[], BaseException]) -> Callable[[list[int]], list[int]]:
    """Return a model that raises a new one each time when 13 is among its items."""

    def model(numbers: list[int]) -> list[int]:
        if 13 in numbers:
            raise make()
        return double(numbers)

    return model


@pytest.mark.parametrize(
    ("make", "answered"),
    [
        (lambda: TwoPartError("a leak", "the roof"), TwoPartError),
        (lambda: SystemTroubleError(5, "disk"), SystemTroubleError),
        (SilentError, ModelError),
        (lambda: SystemExit(3), ModelError),
        (asyncio.CancelledError, ModelError),
    ],
)
async def test_whatever_a_model_raises_answers_the_item_alone(
    make: Callable[[], BaseException], answered: type[CarpoolError]
) -> None:
    """In asyncio and in a thread: the item has the error, the others their results, the batcher runs on."""
    async with Batcher(raising(make), max_batch_size=4) as batcher:
        futures = batcher.enqueue_all([1, 13, 2])
        one, failed, two = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 30)
        with pytest.raises(answered):
            await asyncio.to_thread(batcher.map, [13])
        assert batcher.failure is None
    assert (one, two) == (2, 4)
    assert isinstance(failed, answered)


async def test_errors_of_the_users_own_keep_their_attributes() -> None:
    """Each waiter has an error of its own, equal to what was raised."""
    async with Batcher(lambda _: [TwoPartError("a leak", "the roof")] * 2) as batcher:
        first, second = await asyncio.gather(*batcher.enqueue_all([1, 2]), return_exceptions=True)
    assert first is not second
    assert isinstance(first, TwoPartError)
    assert (str(first), first.where) == ("a leak in the roof", "the roof")


def test_an_array_without_dimensions_is_no_list_of_results() -> None:
    """It has a length only in name."""
    with Batcher(lambda _: np.array(5.0)) as batcher:
        assert all(isinstance(outcome, WrongResultCount) for outcome in batcher.map_outcomes([1, 2]))
        assert batcher.failure is None


def test_a_model_that_exits_while_loading_is_told() -> None:
    """`sys.exit()` in load() ends a thread silently; whoever started the batcher is not left waiting for it."""

    class Leaving:
        """Leaves."""

        def load(self) -> NoReturn:
            """Leave."""
            sys.exit("no licence")

        def __call__(self, items: list[int]) -> list[int]:
            """Never reached."""
            return items

    with pytest.raises(ModelError, match="SystemExit: no licence"), Batcher(Leaving()):
        pass


def test_a_check_that_exits_refuses_its_item() -> None:
    """The caller's program goes on."""

    class Strict:
        """Leaves at the sight of 13."""

        def check(self, number: int) -> None:
            """Leave."""
            if number == 13:
                sys.exit("bad luck")

        def __call__(self, numbers: list[int]) -> list[int]:
            """Twice each."""
            return double(numbers)

    with Batcher(Strict()) as batcher:
        error, two = batcher.map_outcomes([13, 1])
    assert isinstance(error, InvalidItem)
    assert "bad luck" in str(error)
    assert two == 2


def test_a_model_that_calls_its_own_batcher_is_told() -> None:
    """It would wait for itself for ever."""

    def model(numbers: list[int]) -> list[int]:
        return batcher.map(numbers)

    batcher = Batcher(model)
    with batcher, pytest.raises(ConfigError, match="by the batcher's own model"):
        batcher.map([1])


def test_arguments_of_the_wrong_type_are_told() -> None:
    """Each names the argument and what it must be."""
    with pytest.raises(ConfigError, match="num_workers is '2'"):
        Batcher(double, num_workers="2")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"policy is \{\}"):
        Batcher(double, policy={})  # type: ignore[arg-type]


@pytest.mark.parametrize("deadline_s", ["5s", float("nan")])
async def test_a_deadline_that_is_no_number_is_told(deadline_s: object) -> None:
    """It never joins the queue."""
    async with Batcher(double) as batcher:
        with pytest.raises(ConfigError, match="number of seconds from now"):
            await batcher(1, deadline_s=deadline_s)
        assert await batcher(1) == 2
