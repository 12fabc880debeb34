"""ONNX graphs: a free batch axis is required, and each item is checked against the graph's inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from carpool.errors import ConfigError, InvalidItem, ModelError, TargetError
from carpool.models.model import Model
from carpool.models.target import load_target

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
Value = tuple[str, int, list[Any] | None]


def save(path: Path, nodes: Sequence[onnx.NodeProto], inputs: Sequence[Value], outputs: Sequence[Value]) -> Path:
    """Write a graph of these nodes."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


@pytest.fixture
def doubler(tmp_path: Path) -> Model:
    """One input (batch, 3) of floats, one output: x + x."""
    x, y = ("x", FLOAT, ["batch", 3]), ("y", FLOAT, ["batch", 3])
    return ready(save(tmp_path / "doubler.onnx", [helper.make_node("Add", ["x", "x"], ["y"])], [x], [y]))


@pytest.fixture
def masker(tmp_path: Path) -> Model:
    """Two inputs (batch, tokens) of whole numbers, two outputs: their product and their sum."""
    inputs = [(name, INT64, ["batch", "tokens"]) for name in ("ids", "mask")]
    outputs = [(name, INT64, ["batch", "tokens"]) for name in ("product", "sum")]
    nodes = [helper.make_node(op, ["ids", "mask"], [out]) for op, out in (("Mul", "product"), ("Add", "sum"))]
    return ready(save(tmp_path / "masker.onnx", nodes, inputs, outputs))


def ready(path: Path, **options: Any) -> Model:
    """A loaded graph."""
    model = load_target(str(path), **options)
    model.load()
    return model


def run(model: Model, *items: Any) -> Any:
    """Admit and run items as one batch."""
    return model.run([model.admit(item).payload for item in items])


def test_one_input_takes_arrays_lists_or_a_dict(doubler: Model) -> None:
    """And one output gives an array with a row an item."""
    result = run(doubler, [1, 2, 3], np.ones(3), {"x": [0.5, 0.5, 0.5]})
    np.testing.assert_array_equal(result, [[2, 4, 6], [2, 2, 2], [1, 1, 1]])
    assert result.dtype == np.float32


def test_several_inputs_and_outputs_are_dicts(masker: Model) -> None:
    """By the names in the graph."""
    first, second = run(masker, {"ids": [3, 4], "mask": [1, 0]}, {"ids": [5, 6], "mask": [1, 1]})
    assert {key: value.tolist() for key, value in first.items()} == {"product": [3, 0], "sum": [4, 4]}
    assert second["product"].tolist() == [5, 6]


def test_length_is_the_size_of_the_first_free_axis(masker: Model, doubler: Model) -> None:
    """1 where no axis but the batch's is free."""
    assert masker.has_length
    assert masker.admit({"ids": [1] * 7, "mask": [1] * 7}).length == 7
    assert not doubler.has_length
    assert doubler.admit([1, 2, 3]).length == 1


def test_examples_have_the_shapes_that_the_graph_says(masker: Model, doubler: Model) -> None:
    """A free axis needs a length, and none needs none."""
    assert run(doubler, *doubler.examples(2)).shape == (2, 3)
    assert {item["ids"].shape for item in masker.examples(2, length=9)} == {(9,)}
    with pytest.raises(ConfigError, match=r"takes ids \(any\), mask \(any\); give lengths for the free axes"):
        masker.examples(2)
    with pytest.raises(ConfigError, match=r"takes x \(3\); leave the lengths out"):
        doubler.examples(2, length=4)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ([1, 2], r"input 'x' has shape \(2,\); .* takes \(3\)"),
        ([[1, 2, 3]], r"has shape \(1, 3\)"),
        ("abc", "input 'x' is <U3; .* takes float32"),
        (None, "input 'x' is object"),
        ([[1], [2, 3]], "rows that differ in length"),
        ({"z": [1, 2, 3]}, r"an item with \['z'\] was sent; .* takes \['x'\]"),
    ],
    ids=["short", "nested", "text", "none", "ragged", "name"],
)
def test_wrong_items_are_refused_alone(doubler: Model, item: object, said: str) -> None:
    """Before they could join a batch."""
    with pytest.raises(InvalidItem, match=said):
        doubler.admit(item)


def test_floats_for_whole_numbers_and_missing_inputs_are_refused(masker: Model) -> None:
    """Rounding silently would change the answer."""
    with pytest.raises(InvalidItem, match=r"input 'ids' is float64; .* takes int64"):
        masker.admit({"ids": [1.5], "mask": [1]})
    with pytest.raises(InvalidItem, match="has 2 inputs; an item must be a dict with ids, mask"):
        masker.admit([1, 2])


def test_items_of_different_shapes_in_one_batch_are_named(masker: Model) -> None:
    """A graph has no padding of its own."""
    with pytest.raises(InvalidItem, match=r"input 'ids' has the shapes \(1,\) and \(2,\) in one batch"):
        run(masker, {"ids": [1], "mask": [1]}, {"ids": [1, 2], "mask": [1, 1]})


def test_fixed_batch_axis_is_refused_with_the_export_that_frees_it(tmp_path: Path) -> None:
    """Such a graph can't be batched at all."""
    value = ("x", FLOAT, [1, 3])
    path = save(tmp_path / "fixed.onnx", [helper.make_node("Identity", ["x"], ["y"])], [value], [("y", FLOAT, [1, 3])])
    with pytest.raises(
        TargetError, match=r"'x' has the fixed shape \[1, 3\].*dynamic_axes=\{\"x\": \{0: \"batch\"\}\}"
    ):
        ready(path)


def test_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    """In one line."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(TargetError, match="can't be loaded as ONNX"):
        ready(path)


def test_graph_that_fails_names_the_batch(tmp_path: Path) -> None:
    """Two free axes that must agree, and do not."""
    inputs = [("a", FLOAT, ["batch", "m"]), ("b", FLOAT, ["batch", "n"])]
    path = save(tmp_path / "add.onnx", [helper.make_node("Add", ["a", "b"], ["y"])], inputs, [("y", FLOAT, None)])
    with pytest.raises(ModelError, match="failed on a batch of 1"):
        run(ready(path), {"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]})


def test_output_without_the_batch_axis_is_an_error(tmp_path: Path) -> None:
    """Rather than results handed to the wrong items."""
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    path = save(tmp_path / "sum.onnx", nodes, [("x", FLOAT, ["batch", 2])], [("y", FLOAT, [])])
    with pytest.raises(ModelError, match=r"returned an array of shape \(\) for a batch of 2"):
        run(ready(path), [1.0, 2.0], [3.0, 4.0])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda"}, "device 'cuda' is not one that this ONNX Runtime can use"),
        ({"dtype": "bf16"}, "dtype 'bf16' has no effect"),
    ],
)
def test_impossible_option_is_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """When it is named, before the file is read."""
    (tmp_path / "graph.onnx").write_bytes(b"")
    with pytest.raises(ConfigError, match=said):
        load_target(str(tmp_path / "graph.onnx"), **options)


def test_stages_compose_and_close_is_idempotent(doubler: Model) -> None:
    """So that a breakdown of the stages is one of the whole."""
    stages, payloads = doubler.stages, [doubler.admit([1, 2, 3]).payload]
    assert stages is not None
    np.testing.assert_array_equal(stages.run(payloads), doubler.run(payloads))
    doubler.close()
    doubler.close()
