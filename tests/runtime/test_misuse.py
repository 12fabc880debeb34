"""Calls that can't work name what to write instead."""

import asyncio
import inspect
import re

import pytest

from carpool import Batcher, batched
from carpool.errors import ConfigError
from tests.runtime.fakes import double


def test_a_call_in_ordinary_code_names_map_at_once() -> None:
    """Without an event loop nobody could await the result: no coroutine is made that nobody runs."""
    remedy = re.escape("use batcher.map([item]) in ordinary code, or `await batcher(item)` within an `async def`")
    with Batcher(double) as batcher:
        with pytest.raises(ConfigError, match=remedy):
            batcher(1)  # type: ignore[unused-coroutine]
        with pytest.raises(ConfigError, match=remedy):
            batcher.enqueue(1)
        assert batcher.map([1]) == [2]


def test_a_decorated_function_called_in_ordinary_code_says_so_too() -> None:
    """It looks like a function of one item, so this is where it will happen."""
    decorated = batched(max_batch_size=4)(double)
    with pytest.raises(ConfigError, match=r"batcher\.map\(\[item\]\)"):
        decorated(1)  # type: ignore[unused-coroutine]


def test_a_call_within_a_coroutine_is_answered_whatever_block_the_batcher_was_entered_by() -> None:
    """A synchronous `with` around an event loop is fine: what counts is where the call is made."""

    async def ask(batcher: Batcher) -> object:
        return await batcher(4)

    with Batcher(double) as batcher:
        assert asyncio.run(ask(batcher)) == 8


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("max_batchsize", "a Batcher has no option 'max_batchsize': did you mean 'max_batch_size'?"),
        ("workers", "a Batcher has no option 'workers': did you mean 'worker'?"),
        ("banana", "a Batcher has no option 'banana': the keys known there are batch_timeout_s, cost_model"),
    ],
)
def test_an_unknown_option_names_the_nearest_one(option: str, message: str) -> None:
    """Where none is near, all of them; the decorator says the same."""
    wrong: dict[str, int] = {option: 3}
    with pytest.raises(ConfigError, match=re.escape(message)):
        Batcher(double, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=re.escape(message)):
        batched(**wrong)(double)


async def test_an_unknown_option_of_a_call_names_the_nearest_one() -> None:
    """A deadline without its unit is the likeliest slip."""
    async with Batcher(double) as batcher:
        with pytest.raises(ConfigError, match="an item has no option 'deadline': did you mean 'deadline_s'"):
            await batcher(1, deadline=3)


def test_editors_see_the_options_of_a_batcher() -> None:
    """The check leaves the signature as it was written, defaults included."""
    parameters = inspect.signature(Batcher).parameters
    assert list(parameters)[:4] == ["model", "policy", "max_batch_size", "max_wait"]
    assert parameters["num_workers"].default is None
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def test_a_wrong_number_of_arguments_is_still_a_type_error() -> None:
    """Only unknown names are taken over from Python."""
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'model'"):
        Batcher()  # type: ignore[call-arg]
