"""A `.onnx` file, run by ONNX Runtime."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from carpool.errors import ConfigError, InvalidItem, ModelError, TargetError
from carpool.models.model import Admitted, Model, ModelInfo, Results, Stages
from carpool.models.split import split_items

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
    "tensor(uint16)": "uint16",
    "tensor(int32)": "int32",
    "tensor(uint32)": "uint32",
    "tensor(int64)": "int64",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
}
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True)
class _Input:
    """One input of the graph.

    Args:
        name: its name.
        dtype: its numpy type.
        shape: of one item, without the batch's axis; None where any size will do.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]

    def fits(self, array: NDArray[Any]) -> bool:
        """Whether an item's array has this shape."""
        sizes = zip(self.shape, array.shape, strict=False)
        return len(self.shape) == array.ndim and all(size in (None, its) for size, its in sizes)


class OnnxModel(Model):
    """A graph whose inputs all begin with a batch axis of any size.

    An item is an array or list for a graph with one input, or a dict with one for each input's name. A result is an
    array for a graph with one output, else a dict.

    Args:
        path: the file.
        name: a short name; None takes the file's.
        target: how to name it in messages; None takes the path.
        device: ``"cpu"`` or ``"cuda"``; None is the CPU.
        dtype: refused: the file says it.
        num_threads: threads of one operation; None leaves ONNX Runtime's choice.

    Raises:
        ConfigError: a dtype, or a device that this ONNX Runtime can't use.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        target: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self._path = Path(path)
        self._target = target or str(path)
        self._provider = _provider(device)
        if dtype not in (None, "auto"):
            raise ConfigError(
                f"dtype {dtype!r} has no effect on {self._target}: an ONNX file says its own; leave it out"
            )
        self._session: onnxruntime.InferenceSession | None = None
        self._inputs: tuple[_Input, ...] = ()
        self._outputs: tuple[str, ...] = ()
        self._stages = Stages(self._prepare, lambda batch: batch, self._compute, lambda out: out, self._finish)
        self._info = ModelInfo(
            name=name or self._path.stem,
            kind="onnx",
            target=self._target,
            device=device or "cpu",
            num_threads=num_threads,
        )

    @property
    def info(self) -> ModelInfo:
        """What this model is."""
        return self._info

    @property
    def has_length(self) -> bool:
        """Whether an item's own axes have free sizes; the first of them is its length."""
        return any(None in its.shape for its in self._inputs)

    @property
    def concurrent(self) -> bool:
        """A session may be run by several threads at once."""
        return True

    @property
    def stages(self) -> Stages:
        """Stack, the graph, and split; transfers happen inside ONNX Runtime."""
        return self._stages

    def load(self) -> None:
        """Read the file and check that its batch axis is free.

        Raises:
            TargetError: it is not an ONNX file, or its batch axis has a fixed size.
        """
        if self._session is not None:
            return
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._info.num_threads or 0
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(self._path), options, providers=[self._provider])
        except Exception as error:  # its exceptions have no common root
            said = str(error).strip().partition("\n")[0]
            raise TargetError(f"{self._target} can't be loaded as ONNX: {said}") from error
        self._inputs = tuple(self._input(node) for node in session.get_inputs())
        self._outputs = tuple(node.name for node in session.get_outputs())
        self._session = session

    def _input(self, node: Any) -> _Input:
        if node.type not in _DTYPES:
            raise TargetError(f"{self._target}: input {node.name!r} is {node.type}; known are {', '.join(_DTYPES)}")
        if not node.shape or isinstance(node.shape[0], int):
            raise TargetError(
                f"{self._target}: input {node.name!r} has the fixed shape {node.shape}; the first axis must be the "
                f"batch's and of free size. Export again with it free, as in torch.onnx.export(..., "
                f'dynamic_axes={{"{node.name}": {{0: "batch"}}}})'
            )
        shape = tuple(size if isinstance(size, int) else None for size in node.shape[1:])
        return _Input(node.name, np.dtype(_DTYPES[node.type]), shape)

    def admit(self, item: object) -> Admitted:
        """Check the names, types and shapes of one item.

        Raises:
            InvalidItem: an input is missing or unknown, or has another type or shape.
        """
        given = self._by_name(item)
        arrays = {its.name: self._array(its, given[its.name]) for its in self._inputs}
        return Admitted(arrays, max(1, self._length(arrays)))

    def _length(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """The size of the first free axis, 1 where none is free."""
        for its in self._inputs:
            for declared, size in zip(its.shape, arrays[its.name].shape, strict=True):
                if declared is None:
                    return int(size)
        return 1

    def _by_name(self, item: object) -> Mapping[str, object]:
        names = [its.name for its in self._inputs]
        if not isinstance(item, Mapping):
            if len(names) == 1:
                return {names[0]: item}
            raise InvalidItem(f"{self._target} has {len(names)} inputs; an item must be a dict with {', '.join(names)}")
        if set(item) != set(names):
            raise InvalidItem(f"an item with {sorted(map(str, item))} was sent; {self._target} takes {sorted(names)}")
        return item

    def _array(self, its: _Input, value: object) -> NDArray[Any]:
        try:
            given = np.asarray(value)
        except ValueError as error:
            raise InvalidItem(f"input {its.name!r} has rows that differ in length: {error}") from error
        # A Python list has no type of its own, so that its whole numbers may become floats; an array keeps its kind.
        if given.dtype.kind not in "biuf" or not np.can_cast(given.dtype, its.dtype, "same_kind"):
            raise InvalidItem(f"input {its.name!r} is {given.dtype}; {self._target} takes {its.dtype}")
        if not its.fits(given):
            raise InvalidItem(f"input {its.name!r} has shape {given.shape}; {self._target} takes {_shown(its.shape)}")
        return given.astype(its.dtype)

    def run(self, payloads: Sequence[Mapping[str, NDArray[Any]]]) -> Results:
        """Run the graph on a batch.

        Args:
            payloads: admitted items of equal shape.

        Raises:
            InvalidItem: the items' shapes differ.
            ModelError: the graph failed, or an output's first axis is not the batch's.
        """
        return self._stages.run(payloads)

    def _prepare(self, payloads: Sequence[Mapping[str, NDArray[Any]]]) -> tuple[dict[str, NDArray[Any]], int]:
        return {its.name: _stacked(its.name, payloads) for its in self._inputs}, len(payloads)

    def _compute(self, batch: tuple[dict[str, NDArray[Any]], int]) -> tuple[Any, int]:
        assert self._session is not None, "load() comes before run()"
        inputs, num_items = batch
        try:
            outputs = self._session.run(None, inputs)
        except Exception as error:  # its exceptions have no common root
            raise ModelError(f"{self._target} failed on a batch of {num_items}: {error}") from error
        return dict(zip(self._outputs, outputs, strict=True)), num_items

    def _finish(self, output: tuple[dict[str, Any], int]) -> Results:
        arrays, num_items = output
        only = arrays[self._outputs[0]] if len(self._outputs) == 1 else arrays
        return split_items(only, num_items, self._target)

    def examples(self, num_items: int, *, length: int | None = None, seed: int = 0) -> list[Any]:
        """Random floats, and zeros for whole numbers (which may be indices), of the shapes that the file says.

        Args:
            num_items: how many.
            length: the size of every free axis.
            seed: another seed gives other numbers.

        Raises:
            ConfigError: an axis is free and no length was given, or the other way round.
        """
        if self.has_length != (length is not None):
            shapes = ", ".join(f"{its.name} {_shown(its.shape)}" for its in self._inputs)
            remedy = "give lengths for the free axes" if self.has_length else "leave the lengths out: no axis is free"
            raise ConfigError(f"{self._target} takes {shapes}; {remedy}")
        chance = np.random.default_rng(seed)
        return [{its.name: _random(its, length, chance) for its in self._inputs} for _ in range(num_items)]

    def close(self) -> None:
        """Let the session go."""
        self._session = None


def _provider(device: str | None) -> str:
    kind = (device or "cpu").partition(":")[0]
    known = [name for name, provider in _PROVIDERS.items() if provider in onnxruntime.get_available_providers()]
    if kind not in known:
        raise ConfigError(f"device {device!r} is not one that this ONNX Runtime can use; it has {', '.join(known)}")
    return _PROVIDERS[kind]


def _stacked(name: str, payloads: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[Any]:
    arrays = [payload[name] for payload in payloads]
    other = next((array.shape for array in arrays if array.shape != arrays[0].shape), None)
    if other is not None:
        remedy = "bring items to one shape first, by resizing or padding"
        raise InvalidItem(f"input {name!r} has the shapes {arrays[0].shape} and {other} in one batch; {remedy}")
    return np.stack(arrays)


def _shown(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _random(its: _Input, length: int | None, chance: np.random.Generator) -> NDArray[Any]:
    shape = [size if size is not None else length or 1 for size in its.shape]
    if its.dtype.kind == "f":
        return chance.standard_normal(shape).astype(its.dtype)
    return np.zeros(shape, its.dtype)
