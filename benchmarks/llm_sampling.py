"""What choosing tokens costs a sequence and a step: 64 rows of 49,152 logits, by what their requests ask.

A step of a small model takes tens of milliseconds for 64 sequences, so that 100 us for each of them are a fair part of
it. The least that can be done to a row is to read it once: 192 KB, some 10 us from memory. What costs beyond that is
exponentials (a softmax: 40 us here), and picking tokens out: so the most likely token is found without either, a plain
draw sums blocks of 64 tokens and looks into one of them, top-k and min-p take exponentials only of what may be left,
and top-p sorts no more than the tokens next to its edge.

Logits are normal with a standard deviation of 4, which leaves some 100 tokens to top-p 0.95; flat ones, with 0.5, leave
it 40,000, the worst case. Times are the processor's, of one thread, so that other programs disturb little.

    python benchmarks/llm_sampling.py
"""

import json
import platform
import time
from importlib.metadata import version

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from carpool.llm.constrain import ConstraintCompiler
from carpool.llm.constraint import Constraint
from carpool.llm.sampling import SamplerState, sample
from carpool.llm.sampling_params import SamplingParams

NUM_ROWS, VOCABULARY = 64, 49_152
SPREAD, FLAT = 4.0, 0.5
NUM_ROUNDS = 15
NUM_SAID = 500
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
KINDS = {
    "greedy": SamplingParams(temperature=0),
    "greedy, penalties, 500 tokens said": SamplingParams(temperature=0, repetition_penalty=1.1, frequency_penalty=0.2),
    "greedy, JSON schema": SamplingParams(temperature=0, constraint=Constraint.json_schema(SCHEMA)),
    "greedy, logprobs of the token": SamplingParams(temperature=0, logprobs=0),
    "greedy, logprobs of 5 more": SamplingParams(temperature=0, logprobs=5),
    "temperature": SamplingParams(temperature=0.8),
    "top-k 50": SamplingParams(temperature=0.8, top_k=50),
    "min-p 0.05": SamplingParams(temperature=0.8, min_p=0.05),
    "top-p 0.95": SamplingParams(temperature=0.8, top_p=0.95),
    "top-k 50, top-p 0.95": SamplingParams(temperature=0.8, top_k=50, top_p=0.95),
    "top-p 0.95, flat logits": SamplingParams(temperature=0.8, top_p=0.95),
}


def byte_tokenizer() -> Tokenizer:
    """A vocabulary of the model's size: bytes, and pairs and triples of letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    longer = [a + b for a in letters for b in letters] + [a + b + c for a in letters for b in letters for c in letters]
    names = ["<end>", *alphabet, *longer]
    tokenizer = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token=names[0]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def states_of(params: SamplingParams, compiler: ConstraintCompiler) -> list[SamplerState]:
    """Sequences that have said something."""
    states = []
    for index in range(NUM_ROWS):
        matcher = compiler.matcher(params.constraint) if params.constraint else None
        state = SamplerState(params, range(NUM_SAID), matcher=matcher, index=index, seed=0)
        states.append(state)
    return states


def us_a_row(params: SamplingParams, logits: torch.Tensor, compiler: ConstraintCompiler) -> float:
    """Measure: the median over rounds, in microseconds."""
    states, times = states_of(params, compiler), []
    for _ in range(NUM_ROUNDS):
        copy = logits.clone()
        began = time.thread_time()
        sample(copy, states)
        times.append(time.thread_time() - began)
    return float(np.median(times)) / NUM_ROWS * 1e6


def main() -> None:
    """Measure, print a table and one line of JSON."""
    torch.set_num_threads(1)
    compiler = ConstraintCompiler(byte_tokenizer(), frozenset({0}), VOCABULARY)
    normal = torch.randn(NUM_ROWS, VOCABULARY, generator=torch.Generator().manual_seed(0))
    found: dict[str, float] = {}
    for name, params in KINDS.items():
        found[name] = us_a_row(params, normal * (FLAT if "flat" in name else SPREAD), compiler)
    print(f"{'':40}{'us a row':>10}{'ms a step':>12}")
    for name, cost in found.items():
        print(f"{name:40}{cost:10.1f}{cost * NUM_ROWS / 1e3:12.2f}")
    summary = {
        "us_a_row": {name: round(cost, 1) for name, cost in found.items()},
        "num_rows": NUM_ROWS,
        "vocabulary": VOCABULARY,
        "machine": platform.machine(),
        "torch": torch.__version__,
        "carpool": version("carpool"),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
