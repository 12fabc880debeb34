"""The models that every peer serves, written as its users would: one call takes a list and gives an array.

What the server needs is in its environment: WORKLOAD (null or minilm), PORT, MINILM (a directory of weights) and
COUNTS, a file of two int64 in which the model counts its calls and its items: few servers tell the batches they form.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

WORKLOAD = os.environ["WORKLOAD"]
PORT = int(os.environ["PORT"])
MAX_BATCH_SIZE, MAX_WAIT_S = {"null": (64, 0.002), "minilm": (32, 0.005)}[WORKLOAD]
MAX_TOKENS = 256

Model = Callable[[Any], Any]


def counting(model: Model) -> Model:
    """Count the calls and the items of a model in the file that COUNTS names."""
    counts = np.memmap(os.environ["COUNTS"], np.int64, "r+", shape=(2,))

    def counted(items: Sequence[Any]) -> Any:
        counts[0] += 1
        counts[1] += len(items)
        return model(items)

    return counted


def null(items: Sequence[Any]) -> Any:
    """Wait 2 ms and 0.02 ms an item, then sum each item's 128 floats: float32 (n,)."""
    rows = np.asarray(items, np.float32)  # (n, 128)
    time.sleep(0.002 + 0.00002 * len(rows))
    return rows.sum(axis=1)


class MiniLM:
    """all-MiniLM-L6-v2 in bfloat16, padded to the longest text of the batch, as its model card shows it.

    Args:
        directory: of its weights and its tokenizer.
    """

    def __init__(self, directory: str) -> None:
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        import torch
        from tokenizers import Tokenizer
        from transformers import BertModel

        self._torch = torch
        self._model = BertModel.from_pretrained(directory, dtype=torch.bfloat16, add_pooling_layer=False)
        self._model.train(mode=False)
        self._tokenizer = Tokenizer.from_file(f"{directory}/tokenizer.json")
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def __call__(self, texts: Sequence[str]) -> Any:
        """Embed texts: float32 (n, 384), of length one."""
        torch = self._torch
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = torch.tensor([one.ids for one in encoded])  # (n, longest)
        mask = torch.tensor([one.attention_mask for one in encoded])
        with torch.inference_mode():
            hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()  # (n, longest, 384)
            weights = mask[..., None].float()
            pooled = (hidden * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled).numpy()


def make() -> Model:
    """Make the model of the workload, counting."""
    return counting(null if WORKLOAD == "null" else MiniLM(os.environ["MINILM"]))
