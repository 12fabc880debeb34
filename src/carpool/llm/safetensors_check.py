"""Whether a directory's safetensors files are there and whole, told before anything heavy is done."""

import json
import struct
from pathlib import Path
from typing import Any

from carpool.errors import TargetError
from carpool.llm.json_object import read_object
from carpool.units import counted

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_MOST_HEADER = 100 * 2**20
_POINTER = b"version https://git-lfs"
_OTHERS = {
    "pytorch_model": "weights as pickles (.bin)",
    "consolidated": "weights in Mistral's own layout",
    "tf_model": "TensorFlow's weights",
    "flax_model": "Flax's weights",
}


def require_weights(directory: Path) -> list[Path]:
    """The files that hold a model's weights.

    Args:
        directory: a Hugging Face one.

    Raises:
        TargetError: there are none, one is missing, or one is cut short.
    """
    files = _weight_files(directory)
    for path in files:
        _require_whole(path)
    return files


def _weight_files(directory: Path) -> list[Path]:
    if (directory / _SINGLE).is_file():
        return [directory / _SINGLE]
    index = directory / _INDEX
    if not index.is_file():
        raise TargetError(f"{directory} has no weights: neither {_SINGLE} nor {_INDEX}{_what_else(directory)}")
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise TargetError(f"{index} must map the tensors to files in its weight_map")
    names = sorted({str(name) for name in places.values()})
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise TargetError(
            f"{directory} lacks {counted(len(missing), 'file')} of weights out of {len(names)} that {_INDEX} names, "
            f"such as {missing[0]!r}; copy the whole directory"
        )
    return [directory / name for name in names]


def _what_else(directory: Path) -> str:
    for stem, what in _OTHERS.items():
        if any(directory.glob(f"{stem}*")):
            return (
                f", but {what}, which are not read; write safetensors once with transformers' "
                f"save_pretrained({str(directory)!r})"
            )
    files = sorted(directory.glob("*.gguf"))
    return f"; did you mean {files[0]}?" if files else "; put the model's safetensors files there"


def _require_whole(path: Path) -> None:
    """Hold a file's size against what its header promises."""
    header, start = _header(path)
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected, found = start + max(ends, default=0), path.stat().st_size
    if found < expected:
        raise TargetError(
            f"{path} is cut short: it has {found:,} bytes, and its header promises {expected:,}; copy it again"
        )


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """A file's header, and where its data begin."""
    try:
        with path.open("rb") as file:
            first = file.read(len(_POINTER))
            if first == _POINTER:
                raise TargetError(f"{path} is a pointer of Git LFS, not the weights; run `git lfs pull` there")
            (length,) = struct.unpack("<Q", first[:8])
            file.seek(8)
            said = json.loads(file.read(length)) if length <= _MOST_HEADER else None
    except (OSError, ValueError, struct.error) as error:
        raise TargetError(f"{path} is not a safetensors file, or is cut short: {error}") from error
    entries = said.items() if isinstance(said, dict) else ()
    if not entries or not all(name == "__metadata__" or _is_entry(entry) for name, entry in entries):
        raise TargetError(f"{path} is not a safetensors file: its header is not a list of tensors")
    return dict(entries), 8 + length


def _is_entry(entry: object) -> bool:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(each, int) for each in offsets)  # noqa: PLR2004 - begin and end
