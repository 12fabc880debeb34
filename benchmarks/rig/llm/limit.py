"""How fast this machine could do the work at best: what must be read and multiplied, at the rates measured here.

    python -m rig.llm.limit    # measures, and prints the rates as JSON

A step reads all weights once, multiplies every token with those of the layers and each token whose successor is wanted
with those of the last product, and reads the keys and values of its sequences. At the *limit* the first two overlap
wholly, at the machine's bandwidth and at the best rate that oneDNN's product reaches here; the third comes on top,
since it depends on the second. The steps are those of continuous batching without any cost of its own: every running
sequence gets one token a step, and what is left of the token budget goes to prompts in the order of arrival.

The *products* are measured for themselves too, at the model's own sizes and in its order: what a step of so many tokens
costs that does nothing else, prepacked for oneDNN. That bounds whoever uses oneDNN's product.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rig.llm.model import model_directory, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rig.llm.model import Shape
    from rig.llm.work import Request

TOKEN_BUDGET = 512
NUM_TOKENS = (1, 8, 16, 32, 64, 128, 256, 512)
LEAST_REPEATS, MOST_REPEATS, ENOUGH_S = 3, 20, 1.0
BIG_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class StepSize:
    """What a step of the schedule has to do.

    Args:
        num_tokens: through the layers.
        num_wanted: through the last product.
        kv_tokens: whose keys and values are read.
    """

    num_tokens: int
    num_wanted: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What the machine was measured to do.

    Args:
        bytes_per_s: read from memory, by all cores.
        flops_per_s: of the fastest product.
        product_s: seconds of a step's products, by the number of its tokens, all of them wanted.
    """

    bytes_per_s: float
    flops_per_s: float
    product_s: dict[int, float]


def schedule(requests: Sequence[Request], num_slots: int, token_budget: int = TOKEN_BUDGET) -> Iterator[StepSize]:
    """Give the steps that the work takes where scheduling costs nothing.

    Args:
        requests: in the order of arrival, all there from the start.
        num_slots: most sequences at once.
        token_budget: most tokens a step.
    """
    waiting = [(len(one["prompt"]), one["num_output"]) for one in reversed(requests)]
    running: list[tuple[int, int]] = []  # tokens in the cache, tokens still to come
    reading: list[tuple[int, int, int]] = []  # prompt tokens, of which computed, tokens to come: one, the last one read
    while waiting or running or reading:
        going_on = [(cached + 1, left - 1) for cached, left in running]
        num_tokens = num_wanted = len(going_on)
        kv_tokens = sum(cached for cached, _ in going_on)
        while num_tokens < token_budget and (reading or (waiting and len(going_on) < num_slots)):
            prompt, computed, left = reading.pop() if reading else (waiting[-1][0], 0, waiting.pop()[1])
            chunk = min(prompt - computed, token_budget - num_tokens)
            num_tokens, kv_tokens = num_tokens + chunk, kv_tokens + computed + chunk
            if computed + chunk < prompt:
                reading.append((prompt, computed + chunk, left))
            else:
                num_wanted += 1
                going_on.append((prompt, left - 1))
        yield StepSize(num_tokens, num_wanted, kv_tokens)
        running = [(cached, left) for cached, left in going_on if left > 0]


def limit_s(steps: Sequence[StepSize], shape: Shape, rates: Rates) -> float:
    """Seconds that the steps take at least."""
    reading_s = shape.weights_bytes / rates.bytes_per_s

    def step_s(step: StepSize) -> float:
        flops = 2 * (step.num_tokens * shape.body_weights + step.num_wanted * shape.head_weights)
        return max(reading_s, flops / rates.flops_per_s) + step.kv_tokens * shape.kv_bytes / rates.bytes_per_s

    return sum(map(step_s, steps))


def products_s(steps: Sequence[StepSize], rates: Rates) -> float:
    """Seconds that the matrix products of the steps take, interpolated between the sizes that were measured.

    The last product is counted for every token of a step, which is too much only for the few steps that read prompts.
    """
    sizes = sorted(rates.product_s)
    times = [rates.product_s[size] for size in sizes]
    return float(np.interp([step.num_tokens for step in steps], sizes, times).sum())


def _best_s(call: Callable[[], object]) -> float:
    """Seconds of a call at best: what else the machine does only makes it slower."""
    call()  # what is dear the first time
    found: list[float] = []
    while len(found) < LEAST_REPEATS or (len(found) < MOST_REPEATS and sum(found) < ENOUGH_S):
        began_at = time.perf_counter()
        call()
        found.append(time.perf_counter() - began_at)
    return min(found)


def measure_bandwidth() -> float:
    """Bytes a second that all cores read from memory: the sum of 1 GiB."""
    import torch

    numbers = torch.zeros(BIG_BYTES // 4, dtype=torch.float32)
    return BIG_BYTES / _best_s(numbers.sum)


def measure_products(shape: Shape, sizes: Sequence[int] = NUM_TOKENS) -> dict[int, float]:
    """Seconds of all matrix products of a step, by its tokens: bfloat16, prepacked where oneDNN can."""
    import torch

    products = [*shape.products * shape.num_hidden_layers, (shape.vocabulary_size, shape.hidden_size)]
    with torch.inference_mode():
        weights = [torch.randn(rows, columns, dtype=torch.bfloat16) * 0.02 for rows, columns in products]
        found = {}
        for size in sizes:
            packed = _packed(weights, size)
            inputs = {w.shape[1]: torch.randn(size, w.shape[1], dtype=torch.bfloat16) for w in weights}

            def run(packed: Any = packed, inputs: Any = inputs) -> None:
                for call, weight in packed:
                    call(inputs[weight.shape[1]])

            found[size] = _best_s(run)
    return found


def _packed(weights: Sequence[Any], num_rows: int) -> list[tuple[Callable[[Any], Any], Any]]:
    """Prepare products with weights for so many rows: by oneDNN's own layout where this torch has it."""
    import torch

    ops: Any = torch.ops.mkldnn
    try:
        layouts = [ops._reorder_linear_weight(weight, num_rows) for weight in weights]  # noqa: SLF001 - no public name
    except (AttributeError, RuntimeError):  # a torch without it, or a processor that it has no kernel for
        return [(partial(torch.nn.functional.linear, weight=weight), weight) for weight in weights]

    def call(layout: Any) -> Callable[[Any], Any]:
        return lambda x: ops._linear_pointwise(x, layout, None, "none", [], "")  # noqa: SLF001 - as above

    return [(call(layout), weight) for layout, weight in zip(layouts, weights, strict=True)]


def measure(shape: Shape) -> Rates:
    """Measure the machine."""
    product_s = measure_products(shape)
    weights = shape.body_weights + shape.head_weights
    flops_per_s = max(2 * size * weights / seconds for size, seconds in product_s.items())
    return Rates(measure_bandwidth(), flops_per_s, product_s)


def read(document: dict[str, Any]) -> Rates:
    """Read rates that were written as JSON."""
    product_s = {int(size): seconds for size, seconds in document["product_s"].items()}
    return Rates(document["bytes_per_s"], document["flops_per_s"], product_s)


def main() -> None:
    """Measure, and print."""
    print(json.dumps(asdict(measure(shape_of(model_directory())))))


if __name__ == "__main__":
    main()
