"""The work in a batch: floating-point operations, and the bytes that have to move for them.

FLOP: the model's own formula where it has one; else every matrix product, convolution and attention of one real call is
counted. Bytes: the parameters once, plus the call's inputs and outputs on the device: what *must* move whatever the
kernels do. Results between layers are left out: on a CPU most of them stay in its caches, and counting them would
call a model limited by memory that is not. So MBU is a lower bound of what the memory really delivers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError

if TYPE_CHECKING:
    from carpool.models.model import Model
    from carpool.profile.calls import Pool
    from carpool.profile.shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one batch has to do.

    Args:
        flops: Floating-point operations; None where they can't be counted.
        num_bytes: Bytes that must move; None where unknown.
    """

    flops: float | None = None
    num_bytes: float | None = None


class WorkCounter:
    """Counts the work of shapes, running the model at most twice for each length.

    Both are exact at 1 and 2 items, and taken to grow by the same amount for every further item.

    Args:
        model: A loaded model.
        pools: Items by length.
    """

    def __init__(self, model: Model, pools: dict[int, Pool]) -> None:
        self._model = model
        self._pools = pools
        self._known: dict[int, tuple[Work, Work]] = {}

    def count(self, shape: Shape) -> Work:
        """Return the work of a batch; call it on the thread that the model runs on."""
        if shape.length not in self._known:
            self._known[shape.length] = self._count(1, shape.length), self._count(2, shape.length)
        one, two = self._known[shape.length]
        flops = self._model.flops(shape.batch_size, shape.length)
        return Work(
            flops=flops if flops is not None else _extended(one.flops, two.flops, shape.batch_size),
            num_bytes=_extended(one.num_bytes, two.num_bytes, shape.batch_size),
        )

    def _count(self, batch_size: int, length: int) -> Work:
        stages, info = self._model.stages, self._model.info
        if stages is None or info.kind not in ("torch", "encoder"):
            return Work()
        try:
            inputs = stages.to_device(stages.prepare(self._pools[length].take(batch_size)))
            known = self._model.flops(batch_size, length)
            flops, outputs = (
                _count_flops(lambda: stages.compute(inputs)) if known is None else (known, stages.compute(inputs))
            )
        except CarpoolError:
            raise
        except Exception:  # noqa: BLE001 - a model that refuses to be counted is still worth timing
            return Work()
        return Work(
            flops=flops or None, num_bytes=float((info.parameter_bytes or 0) + _bytes(inputs) + _bytes(outputs))
        )


def _extended(one: float | None, two: float | None, batch_size: int) -> float | None:
    return None if one is None or two is None else one + (two - one) * (batch_size - 1)


def _count_flops(call: Any) -> tuple[float, Any]:
    """Run a call and count its FLOP; attention on the CPU is not among those that PyTorch's counter knows."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    # PyTorch's counter gives a function the shapes of its arguments.
    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - has no public name
    with FlopCounterMode(display=False, custom_mapping={on_cpu: attention}) as counter:
        result = call()
    return float(counter.get_total_flops()), result


def _bytes(tree: Any) -> int:
    """Bytes of all tensors in tuples, dicts, lists and plain dataclasses."""
    if hasattr(tree, "element_size") and hasattr(tree, "numel"):
        return int(tree.numel() * tree.element_size())
    if isinstance(tree, dict):
        return sum(map(_bytes, tree.values()))
    if isinstance(tree, tuple | list):
        return sum(map(_bytes, tree))
    fields = getattr(tree, "__dataclass_fields__", ())
    return sum(_bytes(getattr(tree, name)) for name in fields)
