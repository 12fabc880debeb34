"""Tensors in typed contents, which each datatype has a field for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tritonclient.grpc import service_pb2

from carpool.serve.datatypes import NUMPY
from carpool.serve.faults import Fault
from carpool.serve.grpc.contents import has_field, read_contents, write_contents
from carpool.serve.grpc.messages import InferTensorContents

TYPED = [datatype for datatype in NUMPY if has_field(datatype)]
SHAPES = arrays.array_shapes(max_dims=3, max_side=4)


def tensors_of(datatype: str) -> st.SearchStrategy[Any]:
    """Make arrays of a datatype."""
    if datatype == "BYTES":
        return arrays.arrays(object, SHAPES, elements=st.binary(max_size=5))
    return arrays.arrays(NUMPY[datatype], SHAPES)


@pytest.mark.parametrize("datatype", TYPED)
@given(data=st.data())
def test_what_is_written_is_read_back(datatype: str, data: st.DataObject) -> None:
    """Every value of every datatype that has typed contents, not a number among them."""
    array = data.draw(tensors_of(datatype))
    sent = write_contents(array, datatype).SerializeToString()
    assert (
        service_pb2.InferTensorContents.FromString(sent).SerializeToString() == sent
    )  # as an independent reader has it
    read = read_contents(datatype, array.shape, InferTensorContents.FromString(sent), name="x")
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


def test_texts_are_written_as_utf_8() -> None:
    """BYTES are bytes, whatever the model gave."""
    contents = write_contents(np.array([["é"], ["b"]], object), "BYTES")
    assert list(contents.bytes_contents) == ["é".encode(), b"b"]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_floats_of_16_bits_have_no_typed_contents(datatype: str) -> None:
    """The message says how they are sent."""
    with pytest.raises(Fault, match=f"the datatype '{datatype}': {datatype} is sent in raw_input_contents"):
        read_contents(datatype, [1], InferTensorContents(fp32_contents=[1]), name="x")


@pytest.mark.parametrize(
    ("datatype", "shape", "contents", "message"),
    [
        ("FP32", [2], {"fp32_contents": [1]}, "has 1 value in fp32_contents, and its shape means 2"),
        ("FP32", [1], {"fp64_contents": [1]}, "is FP32 and has fp64_contents: use fp32_contents alone"),
        ("INT8", [1], {"int_contents": [1], "uint_contents": [1]}, "has int_contents and uint_contents"),
        ("INT8", [1], {"int_contents": [128]}, "holds 128: INT8 goes from -128 to 127"),
        ("UINT16", [1], {"uint_contents": [65536]}, "holds 65536: UINT16 goes from 0 to 65535"),
        ("FP31", [1], {"fp32_contents": [1]}, "the datatype 'FP31': use one of BOOL"),
        ("FP32", [-1], {"fp32_contents": [1]}, "sizes from 0"),
        ("FP32", [], {"fp32_contents": [1]}, "has the shape []"),
        ("FP32", [1 << 39, 1 << 39], {}, "more than"),
    ],
)
def test_contents_that_do_not_fit_are_refused(
    datatype: str, shape: list[int], contents: dict[str, Any], message: str
) -> None:
    """The message names the value, the limit and the remedy."""
    with pytest.raises(Fault) as refused:
        read_contents(datatype, shape, InferTensorContents(**contents), name="x")
    assert refused.value.status == 400
    assert message in str(refused.value)
