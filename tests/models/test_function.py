"""Functions over a list, and classes and instances that act as one."""

import asyncio
import functools
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from carpool.errors import ConfigError, InvalidItem, ModelError, TargetError
from carpool.models.model import Model
from carpool.models.target import wrap


def lengths(texts: list[str]) -> list[int]:
    """The length of each text."""
    return [len(text) for text in texts]


class Counting:
    """A class with everything that the user protocol knows."""

    def __init__(self) -> None:
        self.calls: list[str] = ["made"]

    def load(self) -> None:
        """Note it."""
        self.calls.append("loaded")

    def close(self) -> None:
        """Note it."""
        self.calls.append("closed")

    def __call__(self, batch: list[str]) -> list[Any]:
        """Say with each text what was called."""
        return [(text, tuple(self.calls)) for text in batch]

    def length(self, item: str) -> int:
        """Words."""
        return len(item.split())

    def check(self, item: object) -> None:
        """Texts only."""
        if not isinstance(item, str):
            raise TypeError(f"{item!r} is no text")

    def examples(self, n: int, length: int = 2) -> list[str]:
        """Texts of so many words."""
        return [" ".join(["word"] * length)] * n


def ready(obj: Any, **options: Any) -> Model:
    """A wrapped and loaded model."""
    model = wrap(obj, **options)
    model.load()
    return model


@pytest.mark.parametrize(
    "obj",
    [
        lengths,
        lambda texts: [len(text) for text in texts],
        functools.partial(map, len),
        type("L", (), {"__call__": lambda self, b: lengths(b)})(),
        len,
    ],
    ids=["function", "lambda", "partial", "instance", "builtin"],
)
def test_everything_callable_with_one_list_is_a_model(obj: Any) -> None:
    """No base class and no decorator is needed."""
    assert ready(obj).info.kind == "function"


def test_function_is_called_with_a_list() -> None:
    """Even where the payloads came as something else."""
    assert ready(lambda batch: [type(batch).__name__]).run(("a",)) == ["list"]


def test_bound_method_is_a_model() -> None:
    """As in `Batcher(model.encode)`."""
    assert ready(Counting().__call__).run(["a"]) == [("a", ("made",))]


def test_class_is_made_and_loaded_once_and_closed() -> None:
    """However often load() is called."""
    model = ready(Counting)
    model.load()
    (result,) = model.run(["a"])
    assert result == ("a", ("made", "loaded"))
    model.close()
    assert model.run(["b"])[0] == ("b", ("made", "loaded", "closed"))


def test_callers_own_instance_is_not_closed() -> None:
    """It may live on after the model."""
    mine = Counting()
    ready(mine).close()
    assert mine.calls == ["made", "loaded"]


def test_hooks_check_and_measure_each_item() -> None:
    """A refusal carries the check's own words."""
    model = ready(Counting)
    assert model.has_length
    assert model.admit("two words").length == 2
    with pytest.raises(InvalidItem, match="Counting refuses this item: 7 is no text"):
        model.admit(7)


@pytest.mark.parametrize(
    "raised", [KeyboardInterrupt, asyncio.CancelledError, SystemExit, GeneratorExit, BaseException]
)
@pytest.mark.parametrize("hook", ["check", "length"])
def test_whatever_a_hook_raises_refuses_the_item(hook: str, raised: type[BaseException]) -> None:
    """Nothing of it reaches the event loop that asks."""

    def hooked(batch: list[Any]) -> list[Any]:
        return batch

    def raising(item: object) -> int:
        raise raised(f"not {item}")

    setattr(hooked, hook, raising)
    with ThreadPoolExecutor(1) as thread, pytest.raises(InvalidItem, match="not 7"):
        thread.submit(ready(hooked).admit, 7).result()


def test_ctrl_c_ends_a_program_while_a_hook_runs() -> None:
    """Where Python's own handler raises it, it is the user who wants to leave."""

    def hooked(batch: list[Any]) -> list[Any]:
        return batch

    hooked.check = lambda item: signal.raise_signal(signal.SIGINT)  # type: ignore[attr-defined]
    model = ready(hooked)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are born without it
    try:
        with pytest.raises(KeyboardInterrupt):
            model.admit(7)
    finally:
        signal.signal(signal.SIGINT, before)


def test_class_tells_whether_items_have_lengths_before_it_is_made() -> None:
    """A profile is planned before the model is loaded."""
    assert wrap(Counting).has_length
    assert not wrap(lengths).has_length


@pytest.mark.parametrize("length", [0, -1, 1.5, True, None, "3"])
def test_length_that_is_none_refuses_the_item(length: object) -> None:
    """A length is a whole number from 1."""

    def sized(batch: list[Any]) -> list[Any]:
        return batch

    sized.length = lambda item: length  # type: ignore[attr-defined]
    with pytest.raises(InvalidItem, match="it must be a whole number from 1"):
        ready(sized).admit("a")


def test_length_that_raises_refuses_the_item() -> None:
    """With the line that raised."""

    def sized(batch: list[Any]) -> list[Any]:
        return batch

    sized.length = len  # type: ignore[attr-defined]
    with pytest.raises(InvalidItem, match=r"length\(\) of sized raised TypeError: object of type 'int' has no len"):
        ready(sized).admit(3)


def test_list_of_examples_repeats_from_a_place_that_the_seed_chooses() -> None:
    """Three items can fill any batch."""

    def model(batch: list[Any]) -> list[Any]:
        return batch

    model.examples = ["a", "b", "c"]  # type: ignore[attr-defined]
    assert ready(model).examples(4) == ["a", "b", "c", "a"]
    assert ready(model).examples(2, seed=2) == ["c", "a"]


def test_array_of_examples_gives_its_rows() -> None:
    """As a user with a numpy array would write it."""

    def model(batch: list[Any]) -> list[Any]:
        return batch

    model.examples = np.arange(6).reshape(3, 2)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(ready(model).examples(1, seed=1)[0], [2, 3])


def test_examples_of_a_length_are_made_or_chosen() -> None:
    """Made by `examples(n, length=...)`, chosen from a list."""
    assert ready(Counting).examples(1, length=3) == ["word word word"]
    listed = Counting()
    listed.examples = ["a b", "c d e", "f g"]  # type: ignore[assignment,method-assign]
    assert ready(listed).examples(2, length=2) == ["a b", "f g"]
    with pytest.raises(ConfigError, match="offers no example of length 9, only of 2, 3"):
        ready(listed).examples(2, length=9)


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        (None, "offers no items to measure with; give it `examples`"),
        ([], "is empty"),
        ("text", "is a str; it must be a list"),
        ({}, "is a dict"),
    ],
    ids=["none", "empty", "text", "dict"],
)
def test_unusable_examples_name_the_remedy(examples: object, said: str) -> None:
    """Each says what it is and what it must be."""

    def model(batch: list[Any]) -> list[Any]:
        return batch

    model.examples = examples  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=said):
        ready(model).examples(2)


def test_tensor_result_becomes_an_array() -> None:
    """Also from bfloat16, which numpy lacks."""
    result = ready(lambda batch: torch.tensor(batch, dtype=torch.bfloat16)).run([1.0, 2.0])
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float32


async def coroutine(batch: list[Any]) -> list[Any]:
    """A coroutine function."""
    return batch


class AsyncCall:
    """A class whose call is a coroutine function."""

    async def __call__(self, batch: list[Any]) -> list[Any]:
        """Return the batch."""
        return batch


class Needy:
    """A class that can't be made without arguments."""

    def __init__(self, path: str, *, size: int, depth: int = 2) -> None:
        self.said = path, size, depth

    def __call__(self, batch: list[Any]) -> list[Any]:
        """Return the batch."""
        return batch


class Silent:
    """A class that can't be called."""


def generator(batch: list[Any]) -> Any:
    """Yield instead of returning."""
    yield from batch


@pytest.mark.parametrize(
    ("obj", "said"),
    [
        (coroutine, "coroutine is an `async def` function; write it as a plain `def`"),
        (AsyncCall, "AsyncCall is an `async def` function"),
        (AsyncCall(), "AsyncCall is an `async def` function"),
        (generator, "generator is a generator function; return a list"),
        (Needy, "Needy is a class whose constructor needs path, size; give them defaults"),
        (Silent, r"Silent is a class without __call__\(self, batch\)"),
        (Silent(), "Silent is a Silent, which can't be called"),
        (lambda: 1, r"lambda takes \(\); it must take one list of items"),
        (lambda a, b: (a, b), r"lambda takes \(a, b\); it must take one list"),
        (7, "int is an int, which can't be called"),
    ],
)
def test_what_can_never_take_a_list_is_refused(obj: Any, said: str) -> None:
    """When it is wrapped, not when the first batch runs."""
    with pytest.raises(TargetError, match=said):
        wrap(obj)


class Broken(Counting):
    """A class whose load() raises."""

    def load(self) -> None:
        """Fail."""
        raise FileNotFoundError("weights.bin")


def test_load_that_raises_names_the_line() -> None:
    """One clean message with the user's own words."""
    with pytest.raises(
        ModelError, match=r"load\(\) of Broken raised FileNotFoundError: weights.bin \(.*line \d+: raise"
    ):
        wrap(Broken).load()


@pytest.mark.parametrize("option", [{"device": "cuda"}, {"dtype": "float16"}])
def test_option_without_effect_is_refused(option: dict[str, Any]) -> None:
    """Rather than ignored."""
    with pytest.raises(ConfigError, match="has no effect on lengths: a function chooses that itself"):
        wrap(lengths, **option)


def test_model_is_returned_as_it_is() -> None:
    """Wrapping twice is wrapping once."""
    model = wrap(lengths)
    assert wrap(model) is model
    assert wrap("demo:null").info.name == "null"


def test_options_for_a_model_that_is_made_already_are_refused() -> None:
    """They would have no effect."""
    with pytest.raises(ConfigError, match="lengths is made already; give num_threads=2 where it is made"):
        wrap(wrap(lengths), num_threads=2)
