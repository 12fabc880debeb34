"""What an import brings with it, seen in a fresh interpreter each."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PURE_MODULES = ["carpool.core", "carpool.cost", "carpool.signals.events"]
OUTSIDE_THE_PURE = {"asyncio", "fastapi", "ray", "starlette", "torch", "uvicorn"}


def modules_loaded_by(statement: str) -> set[str]:
    """Give the top-level names that a statement loads beyond what Python itself starts with."""
    program = (
        f"import sys; before = set(sys.modules)\n{statement}\n"
        "import json; print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_carpool_loads_neither_third_party_modules_nor_asyncio() -> None:
    """Importing the package costs next to nothing, whoever imports it."""
    loaded = modules_loaded_by("import carpool")
    assert "asyncio" not in loaded
    assert loaded <= {*sys.stdlib_module_names, "carpool"}


@pytest.mark.parametrize("module", PURE_MODULES)
def test_pure_modules_load_no_scheduler_accelerator_or_network(module: str) -> None:
    """The modules that decide can be loaded where nothing runs, such as a plain CUDA image."""
    loaded = modules_loaded_by(f"import {module}")
    assert not loaded & OUTSIDE_THE_PURE
    assert loaded <= {*sys.stdlib_module_names, "carpool", "numpy"}


def test_language_models_load_with_torch_and_transformers_alone() -> None:
    """They run on a plain CUDA image, which has not what else is among the package's dependencies."""
    parts = ("llm", "load", "make_runner", "sampling")
    loaded = modules_loaded_by("import " + ", ".join(f"carpool.llm.{part}" for part in parts))
    assert "transformers" in loaded
    assert not loaded & {"msgspec", "click", "rich", "matplotlib", "aiohttp", "gguf", "llguidance", "uvloop"}


def test_the_command_answers_help_without_heavy_packages() -> None:
    """``carpool --help`` loads none of the packages that take seconds."""
    loaded = modules_loaded_by("import carpool.cli.main")
    assert not loaded & {"torch", "transformers", "onnxruntime", "matplotlib", "starlette", "uvicorn", "aiohttp"}
