"""PyTorch modules: items stacked on a new first axis, outputs split along it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from carpool.errors import ConfigError, InvalidItem, ModelError, TargetError
from carpool.models.model import Model
from carpool.models.target import wrap


class Scale(nn.Module):
    """Multiply by a weight; with examples, so that shapes are known."""

    examples = (torch.zeros(2, 3), torch.ones(2, 3))

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 2, 3) to the same."""
        scaled: torch.Tensor = self.dropout(x * self.weight)
        return scaled


class Returning(nn.Module):
    """Give back what a function makes of the inputs."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> Any:
        """Whatever the function gives."""
        return self.function(*inputs, **named)


def ready(module: Any, **options: Any) -> Model:
    """A wrapped and loaded module."""
    model = wrap(module, **options)
    model.load()
    return model


def run(model: Model, *items: Any) -> Any:
    """Admit and run items as one batch."""
    return model.run([model.admit(item).payload for item in items])


@pytest.mark.parametrize("module", [Scale, Scale()], ids=["class", "instance"])
def test_module_runs_in_evaluation_mode_on_stacked_items(module: Any) -> None:
    """Dropout is off, no gradient is kept, and tensors, arrays and lists may be mixed."""
    model = ready(module)
    rows = [torch.ones(2, 3), np.full((2, 3), 2, np.float32), [[3.0] * 3] * 2]
    result = run(model, *rows)
    assert isinstance(result, np.ndarray)
    np.testing.assert_array_equal(result[:, 0, 0], [2.0, 4.0, 6.0])


def test_info_counts_parameters_once_loaded() -> None:
    """One float32 weight."""
    info = ready(Scale).info
    assert (info.kind, info.name, info.dtype, info.num_parameters, info.parameter_bytes) == (
        "torch",
        "Scale",
        "float32",
        1,
        4,
    )


def test_floats_take_the_type_of_the_weights_and_whole_numbers_keep_theirs() -> None:
    """A list of Python floats is float64, and the weights are bfloat16."""
    model = ready(Scale, dtype="bfloat16")
    assert run(model, np.ones((2, 3), np.float64)).dtype == np.float32
    embedding = ready(nn.Embedding(4, 2))
    assert run(embedding, [1, 2, 3], [0, 0, 0]).shape == (2, 3, 2)


def test_tuples_and_dicts_of_inputs_are_given_as_arguments() -> None:
    """By position and by name; an item's own structure decides."""
    np.testing.assert_array_equal(run(ready(Returning(lambda a, b: a - b)), ([3], [1]), ([5], [2])), [[2], [3]])
    named = ready(Returning(lambda ids, mask: ids * mask))
    np.testing.assert_array_equal(
        run(named, {"ids": [1, 2], "mask": [1, 0]}, {"ids": [3, 4], "mask": [0, 1]}), [[1, 0], [0, 4]]
    )


def test_tuple_and_dict_outputs_are_split_for_each_item() -> None:
    """Each item gets its own tuple or dict of arrays."""
    pairs = run(ready(Returning(lambda x: (x, [x + 1]))), [1.0], [2.0])
    assert [(first.tolist(), second[0].tolist()) for first, second in pairs] == [([1.0], [2.0]), ([2.0], [3.0])]
    dicts = run(ready(Returning(lambda x: {"sum": x.sum(1), "double": 2 * x})), [1.0, 1.0], [2.0, 0.0])
    assert [(its["sum"], its["double"].tolist()) for its in dicts] == [(2.0, [2.0, 2.0]), (2.0, [4.0, 0.0])]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda x: x.sum(), r"returned an array of shape \(\) for a batch of 2; the first axis must be 2"),
        (lambda x: x[:1], r"shape \(1, 1\) for a batch of 2"),
        (lambda x: "text", "returned str in its output; it must return tensors"),
        (lambda x: {"a": x, "b": None}, "returned NoneType in its output"),
        (lambda x: (), "returned tuple; it must return tensors, or tuples or dicts"),
    ],
    ids=["reduced", "short", "text", "none", "empty"],
)
def test_output_that_cannot_be_split_is_an_error(function: Any, said: str) -> None:
    """Rather than results handed to the wrong items."""
    with pytest.raises(ModelError, match=said):
        run(ready(Returning(function)), [1.0], [2.0])


def test_item_of_another_shape_than_the_examples_is_refused_alone() -> None:
    """Before it can join and fail a batch."""
    with pytest.raises(InvalidItem, match=r"an item of shape \(3, 2\) was sent; Scale takes \(2, 3\), as its examples"):
        ready(Scale).admit(np.zeros((3, 2)))


def test_items_of_different_shapes_in_one_batch_are_named() -> None:
    """Where the module has no examples to compare with."""
    with pytest.raises(InvalidItem, match=r"shapes \(2,\) and \(3,\) can't share a batch; bring items to one shape"):
        run(ready(Returning(lambda x: x)), [1.0, 2.0], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("item", "said"),
    [("text", "not str"), (None, "not NoneType"), (["a"], "not list of <U1"), ([[1], [2, 3]], "rows differ in length")],
)
def test_item_that_is_no_array_is_refused(item: object, said: str) -> None:
    """Texts and ragged lists."""
    with pytest.raises(InvalidItem, match=said):
        ready(Returning(lambda x: x)).admit(item)


def test_admit_is_the_same_from_many_threads() -> None:
    """Eight threads at once give what one gives."""
    model = ready(Scale)
    items = [np.full((2, 3), i, np.float32) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        admitted = [its.payload for its in pool.map(model.admit, items)]
    np.testing.assert_array_equal(model.run(admitted), 2 * np.stack(items))


def test_run_is_the_composition_of_its_stages() -> None:
    """So that a breakdown of the stages is one of the whole."""
    model = ready(Scale)
    stages, payloads = model.stages, [model.admit(item).payload for item in model.examples(4)]
    assert stages is not None
    by_hand = stages.finish(stages.to_host(stages.compute(stages.to_device(stages.prepare(payloads)))))
    np.testing.assert_array_equal(model.run(payloads), by_hand)


class Needy(nn.Module):
    """A module that can't be made without arguments."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def test_module_class_that_needs_arguments_is_refused() -> None:
    """With the names of the arguments."""
    with pytest.raises(TargetError, match="Needy is a class whose constructor needs width"):
        wrap(Needy)


def test_module_without_examples_names_the_remedy() -> None:
    """For profile, which needs items."""
    with pytest.raises(ConfigError, match="Linear offers no items to measure with; give it `examples`"):
        ready(nn.Linear(2, 2)).examples(1)


def test_absent_device_names_those_there_are() -> None:
    """Refused before anything is moved."""
    with pytest.raises(ConfigError, match="device 'cuda:99' is not on this machine; it has cpu"):
        wrap(Scale, device="cuda:99")
