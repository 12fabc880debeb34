"""What is read off examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from carpool.serve.signature import Field, describe


def field_of(*values: Any) -> Field:
    """Describe values of a single tensor."""
    shape = describe(values, name="input")
    assert shape is not None
    assert shape.container == "one"
    return shape.fields[0]


@pytest.mark.parametrize(
    ("values", "datatype", "declared", "form"),
    [
        (("a text", "b"), "BYTES", (-1, 1), "scalar"),
        ((1, 2), "INT64", (-1, 1), "scalar"),
        ((1, 2.5), "FP64", (-1, 1), "scalar"),
        ((True, False), "BOOL", (-1, 1), "scalar"),
        (([1.0, 2.0], [3, 4]), "FP64", (-1, 2), "list"),
        (((1, 2), (3, 4)), "INT64", (-1, 2), "list"),
        ((["a", "b"],), "BYTES", (-1, 2), "list"),
        ((np.zeros((3, 4), np.float32), np.zeros((3, 5), np.float32)), "FP32", (-1, 3, -1), "array"),
        ((np.float32(1),), "FP32", (-1, 1), "scalar"),
        ((np.zeros(2, np.uint8),), "UINT8", (-1, 2), "array"),
        ((torch.zeros(2, 3),), "FP32", (-1, 2, 3), "tensor"),
    ],
)
def test_single_tensors_are_described(
    values: tuple[Any, ...], datatype: str, declared: tuple[int, ...], form: str
) -> None:
    """Datatype, shape with the batch first, and what the model takes it as."""
    field = field_of(*values)
    assert (field.datatype, field.declared_shape, field.form) == (datatype, declared, form)


@pytest.mark.parametrize(
    "values",
    [
        (None,),
        (object(),),
        ([1, [2]],),
        (["a", 1],),
        ("a", 1),
        ([1, 2], [[1, 2]]),
        (2**70,),
        ({},),
        ({"a": None},),
        ({"a": 1}, {"b": 1}),
        (np.zeros(2, complex),),
        ([1.0], np.zeros(1)),
        ([b"bytes", "text"],),
        (b"bytes", "text"),
        (np.array([None, 1], object),),
    ],
)
def test_what_is_no_tensor_is_not_described(values: tuple[Any, ...]) -> None:
    """Nothing is promised to clients that can't be kept."""
    assert describe(values, name="input") is None


def test_dicts_are_several_tensors_by_name() -> None:
    """Each key is a tensor."""
    shape = describe([{"label": "cat", "score": 0.5}], name="output")
    assert shape is not None
    assert shape.container == "dict"
    assert [(field.name, field.datatype) for field in shape.fields] == [("label", "BYTES"), ("score", "FP64")]


def test_tuples_of_arrays_are_several_tensors_in_order() -> None:
    """They are numbered."""
    shape = describe([(np.zeros(2), 1)], name="output")
    assert shape is not None
    assert [field.name for field in shape.fields] == ["output_0", "output_1"]
