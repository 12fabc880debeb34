"""Unpack a GGUF file's tensors on threads of their own, while the slow import of transformers goes on beside them."""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from gguf.quants import dequantize

from carpool.errors import TargetError
from carpool.llm.gguf_file import GGUFFile, GGUFTensor
from carpool.models.threads import num_cores

_PIECE = 2**18
"""Numbers that are unpacked at a time: what is needed for them stays in the cache."""
_ALONE = 2**15 - 1
"""Numbers that PyTorch copies on the calling thread alone; to tell it so would tell every thread of the process."""


class Unpacking:
    """A file's tensors as plain numbers, begun to be unpacked when this is made.

    Args:
        file: the tensors.
        dtype: the type to give them.
    """

    def __init__(self, file: GGUFFile, dtype: torch.dtype) -> None:
        self._file = file
        self._weights = {name: torch.empty(tensor.shape, dtype=dtype) for name, tensor in file.tensors.items()}
        self._pool = ThreadPoolExecutor(num_cores())
        self._pieces: list[Future[None]] = [
            self._pool.submit(_unpack, file, tensor, self._weights[tensor.name], start)
            for tensor in file.tensors.values()
            for start in _starts(tensor)
        ]

    def result(self) -> dict[str, torch.Tensor]:
        """Wait for all of them; by the file's names.

        Raises:
            TargetError: the installed gguf does not unpack numbers of one of their types.
        """
        try:
            for piece in self._pieces:
                piece.result()
        except NotImplementedError as error:
            kinds = sorted({tensor.kind.name for tensor in self._file.tensors.values()})
            raise TargetError(
                f"{self._file.path} stores numbers as one of {', '.join(kinds)}, which the installed gguf does not "
                f"unpack: {error}. Run `pip install --upgrade gguf`, or give another file"
            ) from error
        finally:
            self.cancel()
        return self._weights

    def cancel(self) -> None:
        """Begin no more pieces, and wait for those under way: nothing reads the file any more after this."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _rows_at_once(tensor: GGUFTensor) -> int:
    return max(1, _PIECE // tensor.shape[-1])


def _starts(tensor: GGUFTensor) -> range:
    num_rows = 1 if len(tensor.shape) == 1 else tensor.shape[0]
    return range(0, num_rows, _rows_at_once(tensor))


def _unpack(file: GGUFFile, tensor: GGUFTensor, filled: torch.Tensor, start: int) -> None:
    """Unpack some rows."""
    rows = slice(start, start + _rows_at_once(tensor))
    plain = dequantize(file.rows(tensor)[rows], tensor.kind)
    numbers = torch.from_numpy(plain if plain.flags.writeable else plain.copy())
    if _is_shifted_norm(file, tensor.name):
        numbers = numbers - 1  # before they are rounded
    place = filled.view(-1, tensor.shape[-1])[rows].view(-1)
    for begin in range(0, len(place), _ALONE):
        place[begin : begin + _ALONE].copy_(numbers.view(-1)[begin : begin + _ALONE])


def _is_shifted_norm(file: GGUFFile, name: str) -> bool:
    """Gemma multiplies by one more than its weights; the file has the sum."""
    return file.architecture.startswith("gemma") and name.endswith("norm.weight")
