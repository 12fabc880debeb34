"""The best that this machine does, measured: matrix products, copies in its memory, copies to and from a device.

What a peak is worth depends on how it is reached: these are of the same library, dtype and threads as the model's own
calls, best of several sizes and repeats, and so what a program could at most hope for, not the data sheet's figure.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from carpool.profile.work import Work

MATRIX_SIZES = (512, 1024, 2048, 4096)
# Far beyond any last-level cache, so that the copy is of memory.
COPY_BYTES = 256 * 1024**2
TRANSFER_BYTES = 64 * 1024**2
MOST_REPEATS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPeaks:
    """Peaks, and what they were measured with.

    Args:
        flops_per_s: Best matrix product, counted as 2 n^3.
        matrix_size: The n that was best; 0 where the model itself did more, which is then the peak.
        bytes_per_s: Best copy, read and written bytes both counted.
        to_device_bytes_per_s: Best copy from pinned host memory to the device; None on a CPU.
        to_host_bytes_per_s: Best copy back; None on a CPU.
        dtype: Numbers of the matrix product.
        library: `torch` or `numpy`.
        model_over_product: What the model itself reached over what the best matrix product did; 1 where that was more.
    """

    flops_per_s: float
    matrix_size: int
    bytes_per_s: float
    to_device_bytes_per_s: float | None
    to_host_bytes_per_s: float | None
    dtype: str
    library: str
    model_over_product: float = 1.0

    def best_of(self, other: MeasuredPeaks) -> MeasuredPeaks:
        """Return the higher of two measurements of each peak: interference only ever lowers them."""
        faster = max(self, other, key=lambda peaks: peaks.flops_per_s)
        return replace(
            faster,
            bytes_per_s=max(self.bytes_per_s, other.bytes_per_s),
            to_device_bytes_per_s=_higher(self.to_device_bytes_per_s, other.to_device_bytes_per_s),
            to_host_bytes_per_s=_higher(self.to_host_bytes_per_s, other.to_host_bytes_per_s),
        )

    def raised_to(self, flops_per_s: float) -> MeasuredPeaks:
        """Return the same with a rate that the model itself reached as the peak, where that is higher."""
        if flops_per_s <= self.flops_per_s:
            return self
        return replace(self, flops_per_s=flops_per_s, matrix_size=0, model_over_product=flops_per_s / self.flops_per_s)

    def least_s(self, work: Work) -> float:
        """Return the seconds that work takes at the peaks, whichever limits it."""
        return max((work.flops or 0.0) / self.flops_per_s, (work.num_bytes or 0.0) / self.bytes_per_s)


def _higher(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else max(one, other)


def measure_peaks(
    device: str, dtype: str, *, budget_s: float, clock: Callable[[], float] = time.perf_counter
) -> MeasuredPeaks:
    """Measure all peaks; call it on the thread that the model runs on.

    Args:
        device: As PyTorch names it.
        dtype: The model's; empty, or one that no product takes, becomes float32.
        budget_s: About how long it may take: three quarters for products, the rest for copies.
        clock: Seconds from any origin.
    """
    # A model that does not use PyTorch is not held against what PyTorch could do.
    if "torch" not in sys.modules:
        return _with_numpy(budget_s, clock)
    return _with_torch(device, dtype, budget_s, clock)


def best_s(call: Callable[[], object], *, budget_s: float, clock: Callable[[], float]) -> float:
    """Return the seconds of the fastest of up to 20 calls, after one to warm up; at least one is timed."""
    call()
    until, fastest = clock() + budget_s, float("inf")
    for repeat in range(MOST_REPEATS):
        start = clock()
        if repeat and start >= until:
            break
        call()
        fastest = min(fastest, clock() - start)
    return max(fastest, 1e-9)


def fastest_product(
    product: Callable[[int], Callable[[], object]], *, budget_s: float, clock: Callable[[], float]
) -> tuple[float, int]:
    """Return the best FLOP/s over sizes, and its size; sizes that are predicted to overrun the budget are left out.

    Args:
        product: Gives, for n, a call that multiplies two n x n matrices.
        budget_s: Seconds for all sizes.
        clock: Seconds from any origin.
    """
    until, best, best_size = clock() + budget_s, 0.0, 0
    for size in MATRIX_SIZES:
        left_s = until - clock()
        # The product and its warm-up at the rate reached so far.
        if best and 2 * 2.0 * size**3 / best > left_s:
            break
        rate = 2.0 * size**3 / best_s(product(size), budget_s=left_s / 2, clock=clock)
        if rate > best:
            best, best_size = rate, size
    return best, best_size


def _with_numpy(budget_s: float, clock: Callable[[], float]) -> MeasuredPeaks:
    rng = np.random.default_rng(0)

    def product(size: int) -> Callable[[], object]:
        a, b = (rng.random((size, size), dtype=np.float32) for _ in range(2))
        out = np.empty_like(a)
        return lambda: np.matmul(a, b, out=out)

    flops_per_s, size = fastest_product(product, budget_s=0.75 * budget_s, clock=clock)
    source = np.ones(COPY_BYTES, dtype=np.uint8)
    target = np.empty_like(source)
    copy_s = best_s(lambda: np.copyto(target, source), budget_s=0.25 * budget_s, clock=clock)
    return MeasuredPeaks(
        flops_per_s=flops_per_s,
        matrix_size=size,
        bytes_per_s=2.0 * COPY_BYTES / copy_s,
        to_device_bytes_per_s=None,
        to_host_bytes_per_s=None,
        dtype="float32",
        library="numpy",
    )


def _with_torch(device: str, dtype: str, budget_s: float, clock: Callable[[], float]) -> MeasuredPeaks:
    import torch

    place, kind = _place(torch, device), _dtype(torch, dtype)
    wait = _waiter(torch, place)

    def product(size: int) -> Callable[[], object]:
        # Ones: the time of a product does not depend on the numbers, and making random ones would.
        a = torch.ones(size, size, dtype=kind, device=place)
        out = torch.empty_like(a)
        return wait(lambda: torch.mm(a, a, out=out))

    with torch.inference_mode():
        flops_per_s, size = fastest_product(product, budget_s=0.75 * budget_s, clock=clock)
        source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=place)
        target = torch.empty_like(source)
        copy_s = best_s(wait(lambda: target.copy_(source)), budget_s=0.15 * budget_s, clock=clock)
        there, back = _transfers(torch, place, wait, budget_s=0.05 * budget_s, clock=clock)
    return MeasuredPeaks(
        flops_per_s=flops_per_s,
        matrix_size=size,
        bytes_per_s=2.0 * COPY_BYTES / copy_s,
        to_device_bytes_per_s=there,
        to_host_bytes_per_s=back,
        dtype=str(kind).removeprefix("torch."),
        library="torch",
    )


def _place(torch: Any, device: str) -> Any:
    """The device, or the CPU where PyTorch does not have it (another library's name for one)."""
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return torch.device(device if here is not None and device.partition(":")[0] == here.type else "cpu")


def _dtype(torch: Any, name: str) -> Any:
    kind = getattr(torch, name, None) if name else None
    return kind if isinstance(kind, torch.dtype) and kind.is_floating_point else torch.float32


def _waiter(torch: Any, place: Any) -> Callable[[Callable[[], object]], Callable[[], object]]:
    """Make calls wait for the device, where it runs on after they return."""
    if place.type == "cpu":
        return lambda call: call

    def waiting(call: Callable[[], object]) -> Callable[[], object]:
        def both() -> None:
            call()
            torch.accelerator.synchronize(place)

        return both

    return waiting


def _transfers(
    torch: Any, place: Any, wait: Callable[[Callable[[], object]], Callable[[], object]], *, budget_s: float, clock: Any
) -> Iterable[float | None]:
    """Bytes a second to the device and back, from and to pinned memory."""
    if place.type == "cpu":
        return None, None
    host = torch.ones(TRANSFER_BYTES, dtype=torch.uint8).pin_memory()
    there = torch.empty_like(host, device=place)
    moves = (lambda: there.copy_(host, non_blocking=True), lambda: host.copy_(there, non_blocking=True))
    return [TRANSFER_BYTES / best_s(wait(move), budget_s=budget_s, clock=clock) for move in moves]
