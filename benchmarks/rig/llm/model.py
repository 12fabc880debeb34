"""The model that every engine runs: SmolLM2-135M-Instruct in bfloat16, taken from its GGUF file by transformers."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from envs import BENCHMARK_ENVIRONMENTS, environment

from carpool.models.demo import smollm2_gguf

if TYPE_CHECKING:
    from pathlib import Path

MODELS = BENCHMARK_ENVIRONMENTS / "models"
BFLOAT16_BYTES = 2
TRANSFORMERS_PINS = (
    "torch==2.13.0",
    "transformers==5.23.0",
    "tokenizers==0.23.3",
    "safetensors==0.8.0",
    "accelerate==1.15.0",
    "gguf==0.19.0",
)


def model_directory() -> Path:
    """Give the directory with the weights, made when it is not there yet."""
    directory = MODELS / "smollm2"
    if not (directory / "config.json").exists():
        unfinished = MODELS / "smollm2.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        python = environment("transformers", TRANSFORMERS_PINS)
        command = [str(python), "-m", "peers.llm.weights", str(smollm2_gguf()), str(unfinished)]
        subprocess.run(command, check=True, cwd=BENCHMARK_ENVIRONMENTS.parent)
        unfinished.rename(directory)
    return directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of a Llama, from which its work follows.

    Args:
        hidden_size: H.
        intermediate_size: of the gated part.
        num_hidden_layers: L.
        num_attention_heads: of queries.
        num_key_value_heads: of keys and values.
        vocabulary_size: V.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocabulary_size: int

    @property
    def key_size(self) -> int:
        """Width of a token's keys in a layer."""
        return self.hidden_size // self.num_attention_heads * self.num_key_value_heads

    @property
    def products(self) -> tuple[tuple[int, int], ...]:
        """Outputs and inputs of a layer's matrix products: queries with keys and values, output, gate with up, down."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return ((hidden + 2 * self.key_size, hidden), (hidden, hidden), (2 * inner, hidden), (hidden, inner))

    @property
    def body_weights(self) -> int:
        """Weights that every token meets."""
        return self.num_hidden_layers * sum(rows * columns for rows, columns in self.products)

    @property
    def head_weights(self) -> int:
        """Weights of the last product, which only tokens meet whose successor is wanted."""
        return self.vocabulary_size * self.hidden_size

    @property
    def weights_bytes(self) -> int:
        """What a step reads at least."""
        return BFLOAT16_BYTES * (self.body_weights + self.head_weights)

    @property
    def kv_bytes(self) -> int:
        """Keys and values of one token, in bfloat16."""
        return BFLOAT16_BYTES * 2 * self.key_size * self.num_hidden_layers


def shape_of(directory: Path) -> Shape:
    """Read the sizes of a model."""
    fields = msgspec.json.decode((directory / "config.json").read_bytes())
    names = Shape.__dataclass_fields__
    return Shape(**{name: fields[name] for name in names if name in fields}, vocabulary_size=fields["vocab_size"])
