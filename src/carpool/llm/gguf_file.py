"""Read a GGUF file: what it says about its model, and where its tensors lie.

The layout is that of ggml's docs/gguf.md, versions 2 and 3, little-endian. The vocabulary's long lists are why this is
not left to the `gguf` package, whose reader needs seconds for them.
"""

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from carpool.errors import TargetError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Where a tensor lies.

    Args:
        name: as the file says.
        shape: as PyTorch counts: rows first.
        kind: how its numbers are stored.
        start: its first byte in the file.
        num_bytes: of it.
    """

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """A GGUF file, mapped into memory.

    Args:
        path: of the file.
        metadata: what it says by key; lists of numbers are arrays.
        tensors: by name.
        content: its bytes.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]
    content: NDArray[np.uint8]

    @property
    def architecture(self) -> str:
        """Such as ``"llama"``."""
        return str(self.metadata.get("general.architecture", "unnamed"))

    def rows(self, tensor: GGUFTensor) -> NDArray[np.uint8]:
        """A tensor's stored bytes, (rows, bytes of a row).

        Args:
            tensor: of this file.
        """
        stored = self.content[tensor.start : tensor.start + tensor.num_bytes]
        return stored.reshape(prod(tensor.shape[:-1]), -1)


def read_gguf(path: Path) -> GGUFFile:
    """Read a file's header; its tensors stay where they are.

    Args:
        path: of the file.

    Raises:
        TargetError: it is missing, is no GGUF file, is cut short, or stores numbers in a way that is not known.
    """
    content = _mapped(path)
    try:
        return _read(path, content)
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise TargetError(
            f"{path} is cut short or damaged: its header can't be read within its {len(content):,} bytes ({error}); "
            "copy it again"
        ) from error


def _mapped(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise TargetError(f"{path} is empty; copy it again") from error
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror}") from error


def _read(path: Path, content: mmap.mmap) -> GGUFFile:
    if content[:4] != _MAGIC:
        raise TargetError(f"{path} is not a GGUF file: it begins with {content[:4]!r}, not {_MAGIC!r}")
    reader = _Reader(content, 4)
    version, num_tensors, num_keys = reader.unpack("IQQ")
    if version not in _VERSIONS:
        raise TargetError(f"{path} is GGUF of version {version}; {' and '.join(map(str, _VERSIONS))} are read")
    metadata = {reader.string(): reader.value() for _ in range(num_keys)}
    entries = [reader.entry() for _ in range(num_tensors)]
    alignment = int(metadata.get("general.alignment", 32))
    begin = -(-reader.at // alignment) * alignment
    tensors = {entry[0]: _tensor(path, *entry, begin=begin) for entry in entries}
    end = max((tensor.start + tensor.num_bytes for tensor in tensors.values()), default=begin)
    if len(content) < end:
        raise TargetError(
            f"{path} is cut short: it has {len(content):,} bytes, and its header promises {end:,}; copy it again"
        )
    return GGUFFile(path, metadata, tensors, np.frombuffer(content, np.uint8))


def _tensor(path: Path, name: str, shape: tuple[int, ...], kind: int, offset: int, *, begin: int) -> GGUFTensor:
    try:
        known = GGMLQuantizationType(kind)
    except ValueError as error:
        raise TargetError(
            f"{path} stores {name} as ggml's type {kind}, which the installed gguf does not know: "
            "run `pip install --upgrade gguf`"
        ) from error
    block, num_bytes = GGML_QUANT_SIZES[known]
    return GGUFTensor(name, shape, known, begin + offset, prod(shape) // block * num_bytes)


class _Reader:
    """Reads a file's header from its begin to its end.

    Args:
        content: the file's bytes.
        at: where to begin.
    """

    def __init__(self, content: mmap.mmap, at: int) -> None:
        self._content, self.at = content, at

    def unpack(self, form: str) -> tuple[Any, ...]:
        """Numbers that lie together."""
        numbers = struct.unpack_from(f"<{form}", self._content, self.at)
        self.at += struct.calcsize(f"<{form}")
        return numbers

    def string(self) -> str:
        """A text with its length before it."""
        start = self.at + 8
        (length,) = struct.unpack_from("<Q", self._content, self.at)
        if start + length > len(self._content):
            raise struct.error(f"a text of {length:,} bytes at {start:,}")
        self.at = start + length
        return self._content[start : self.at].decode()

    def value(self) -> Any:
        """A value with its type before it."""
        (kind,) = self.unpack("I")
        return self._typed(kind)

    def _typed(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        return self.unpack(self._scalar(kind))[0]

    def _array(self) -> Any:
        kind, length = self.unpack("IQ")
        if kind in (_STRING, _ARRAY):
            return [self._typed(kind) for _ in range(length)]
        form = self._scalar(kind)
        size = length * struct.calcsize(form)
        if self.at + size > len(self._content):
            raise struct.error(f"a list of {length:,} numbers at {self.at:,}")
        numbers = np.frombuffer(self._content, np.dtype(form).newbyteorder("<"), length, self.at)
        self.at += size
        return numbers

    def _scalar(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise struct.error(f"a value of the unknown type {kind} at {self.at:,}")
        return _SCALARS[kind]

    def entry(self) -> tuple[str, tuple[int, ...], int, int]:
        """A tensor's name, shape, type and offset."""
        name = self.string()
        (num_dimensions,) = self.unpack("I")
        if num_dimensions > _MOST_DIMENSIONS:
            raise struct.error(f"{num_dimensions} dimensions of {name!r}")
        shape = self.unpack(f"{num_dimensions}Q")
        kind, offset = self.unpack("IQ")
        return name, shape[::-1], kind, offset
