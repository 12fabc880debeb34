"""How fast an encoder turns sentences into vectors in one process, beside sentence-transformers and a plain loop.

Real English sentences of 5 to 60 words come in windows, as many as wait at a time: 64 and 256. Each way must answer one
window before it sees the next, and tokenises them itself. What makes the difference:

- *padding*: in order of arrival a batch of 32 is half padding; sorted within its window, less; packed end to end, none.
- *layout of the weights*: a plain linear layer lays its weights out anew on every call; prepacked, once.
- *threads*: two workers with a thread each do not wait for each other within every operation, as two threads of one do.

Each way runs in a process of its own and they take turns, so that a machine that slows down slows all of them. Beside
items a second stand items a second of processor time, which other programs on the machine disturb less. Vectors are
held against those of sentence-transformers in float32: the least cosine is in the table.

A round of a way lasts for some seconds, and is then finished with the window that it is at: 8 ways, 2 sizes of window
and 3 rounds of 6 seconds, with what is loaded and finished, are seven to eight minutes.

    python benchmarks/encoder.py [--seconds 6] [--rounds 3]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from carpool import Batcher
from carpool.models.demo import minilm_directory
from carpool.models.target import load_target
from carpool.models.text import sentences

Vectors = NDArray[np.float32]
Encode = Callable[[list[str]], Vectors]
WINDOWS = (64, 256)
BATCH = 32
COMPARED = 64
NUM_SENTENCES = 2048
REFERENCE, PLAIN, OURS = "sentence-transformers, float32", "padded, sorted, 32", "packed, prepacked, a worker a core"


@contextmanager
def sentence_transformers(dtype: str) -> Iterator[Encode]:
    """Give its own `encode`, with the batch size that is its default and its best."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(minilm_directory()), device="cpu", local_files_only=True, model_kwargs={"dtype": dtype}
    )
    yield lambda texts: np.asarray(model.encode(texts, batch_size=BATCH, show_progress_bar=False), np.float32)


@contextmanager
def plain_loop(*, in_order: bool) -> Iterator[Encode]:
    """Give the loop that people write: batches of 32, padded to the longest, by transformers as it is."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_directory())
    model = AutoModel.from_pretrained(minilm_directory(), dtype=torch.bfloat16).eval()

    @torch.inference_mode()
    def batch(texts: list[str]) -> Vectors:
        given = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
        hidden, mask = model(**given).last_hidden_state.float(), given["attention_mask"][..., None]
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy()

    def encode(texts: list[str]) -> Vectors:
        order = list(range(len(texts)))
        if not in_order:
            order.sort(key=lambda index: len(texts[index]))
        found = np.empty((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            found[places] = batch([texts[place] for place in places])
        return found

    yield encode


@contextmanager
def ours(*, packed: bool = True, prepacked: bool = True, num_workers: int | None = 1) -> Iterator[Encode]:
    """Give our own batcher, with parts of what the encoder does left out."""
    with ExitStack() as stack:
        if not packed:
            refuse = NotImplementedError("left out")
            stack.enter_context(patch("carpool.models.encoder_check.PackedWay", side_effect=refuse))
        if not prepacked:
            stack.enter_context(patch("carpool.models.encoder_check.prepack", return_value=0))
        model = load_target("demo:minilm", num_threads=None if num_workers is None else num_cores() // num_workers)
        batcher = stack.enter_context(Batcher(model, num_workers=num_workers))
        yield lambda texts: np.stack(batcher.map(texts))


def num_cores() -> int:
    """Return how many cores there are."""
    return len(os.sched_getaffinity(0))


WAYS: dict[str, Callable[[], Any]] = {
    REFERENCE: lambda: sentence_transformers("float32"),
    "sentence-transformers, bfloat16": lambda: sentence_transformers("bfloat16"),
    "padded, in order of arrival, 32": lambda: plain_loop(in_order=True),
    PLAIN: lambda: plain_loop(in_order=False),
    "carpool: padded": lambda: ours(packed=False, prepacked=False),
    "carpool: packed": lambda: ours(prepacked=False),
    "carpool: packed, prepacked": ours,
    f"carpool: {OURS}": lambda: ours(num_workers=None),
}


def work(name: str, seconds: float, reference: Path) -> None:
    """Be one way: run a round for each window size that stands on a line, and say how fast that was."""
    texts = list(sentences(NUM_SENTENCES, min_words=5, max_words=60))
    with WAYS[name]() as encode:
        np.save(reference, encode(texts[:COMPARED]))
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(one_round(encode, texts, int(line), seconds)), flush=True)


def one_round(encode: Encode, texts: list[str], window: int, seconds: float) -> dict[str, float]:
    """Return items a second, of wall-clock time and of processor time.

    Args:
        encode: the way.
        texts: what it is given, from the first on in every round.
        window: sentences at a time.
        seconds: no window begins after so long.
    """
    num_items, wall_s, began, cpu_began = 0, 0.0, time.perf_counter(), time.process_time()
    while wall_s < seconds:
        start = num_items % len(texts)
        encode(texts[start : start + window])
        num_items += window
        wall_s = time.perf_counter() - began
    return {"items_per_s": num_items / wall_s, "items_per_cpu_s": num_items / (time.process_time() - cpu_began)}


def ask(process: "subprocess.Popen[str]", window: int | None = None) -> Any:
    """Return what a way answers, asked for a round of a window size; or that it is ready."""
    assert process.stdin is not None
    assert process.stdout is not None
    if window is not None:
        process.stdin.write(f"{window}\n")
        process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        sys.exit(f"a way ended: run it alone, as {' '.join(map(str, process.args))}")  # type: ignore[arg-type]
    return json.loads(line)


def measure(seconds: float, num_rounds: int) -> tuple[dict[str, dict[int, dict[str, float]]], dict[str, float]]:
    """Return the medians of every way by window size, and the least cosine of each to the reference."""
    runs: dict[str, dict[int, list[dict[str, float]]]] = {name: {window: [] for window in WINDOWS} for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        files = {name: Path(scratch, f"{number}.npy") for number, name in enumerate(WAYS)}
        processes = {}
        for name, file in files.items():
            command = [sys.executable, __file__, "--seconds", str(seconds), "--way", name, "--vectors", str(file)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes[name] = stack.enter_context(process)
            ask(process)
        for _ in range(num_rounds):
            for name, process in processes.items():
                for window in WINDOWS:
                    runs[name][window].append(ask(process, window))
        expected = np.load(files[REFERENCE])
        cosines = {name: float((np.load(file) * expected).sum(axis=1).min()) for name, file in files.items()}
        for process in processes.values():
            assert process.stdin is not None
            process.stdin.close()
    medians = {
        name: {
            window: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for window, found in of.items()
        }
        for name, of in runs.items()
    }
    return medians, cosines


def main() -> None:
    """Measure every way, print a table and one line of JSON."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=6.0, help="of each round of each way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="be one way, for the process that measures")
    parser.add_argument("--vectors", type=Path, default=Path(os.devnull))
    given = parser.parse_args()
    if given.way:
        work(given.way, given.seconds, given.vectors)
        return
    medians, cosines = measure(given.seconds, given.rounds)
    print(f"{'':46}{'window 64':>18}{'window 256':>18}{'least':>9}")
    print(f"{'items/s (of processor time)':46}{'':36}{'cosine':>9}")
    for name, found in medians.items():
        cells = "".join(f"{found[w]['items_per_s']:9.0f} ({found[w]['items_per_cpu_s']:5.0f})" for w in WINDOWS)
        print(f"{name:46}{cells:>36}{cosines[name]:9.5f}")
    ours_found, plain = medians[f"carpool: {OURS}"], medians[PLAIN]
    summary: dict[str, Any] = {}
    for window in WINDOWS:
        for key, label in (("items_per_s", "rate"), ("items_per_cpu_s", "cpu")):
            ratio = ours_found[window][key] / plain[window][key]
            summary[f"{label}_{window}_vs_padded_sorted"] = round(ratio, 2)
        summary[f"items_per_s_{window}"] = round(ours_found[window]["items_per_s"])
    summary |= {
        "least_cosine": round(cosines[f"carpool: {OURS}"], 5),
        "seconds": given.seconds,
        "num_rounds": given.rounds,
        "cores": num_cores(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "sentence-transformers", "carpool")},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
