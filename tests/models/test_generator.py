"""Telling generators from models that answer in one call, by what is named and what config.json says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from carpool.models.generator import is_generator


def directory(path: Path, config: object) -> Path:
    """A directory with a config.json."""
    path.mkdir()
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("architectures", "generates"),
    [
        (["LlamaForCausalLM"], True),
        (["GPT2LMHeadModel"], True),
        (["BertModel"], False),
        (["T5ForConditionalGeneration"], False),
        ([], False),
        (None, False),
        ("LlamaForCausalLM", False),
    ],
)
def test_a_directory_generates_by_its_architecture(tmp_path: Path, architectures: object, generates: bool) -> None:
    """A causal one; those with an encoder before their decoder are not run here."""
    assert is_generator(str(directory(tmp_path / "it", {"architectures": architectures}))) == generates


def test_a_generator_that_makes_vectors_is_an_encoder(tmp_path: Path) -> None:
    """As sentence-transformers' directories say by their modules.json."""
    path = directory(tmp_path / "it", {"architectures": ["Qwen3ForCausalLM"]})
    (path / "modules.json").write_text("[]")
    assert not is_generator(str(path))


@pytest.mark.parametrize("config", ["{", "[1]", "\x00"])
def test_malformed_configurations_generate_nothing(tmp_path: Path, config: str) -> None:
    """Who loads them says what is wrong."""
    assert not is_generator(str(directory(tmp_path / "it", config)))


def test_files_and_demos_generate_by_their_names(tmp_path: Path) -> None:
    """A GGUF file, whether it is there or not: who loads it says so. A directory of such a name is not one."""
    assert is_generator("demo:smollm2")
    assert is_generator(str(tmp_path / "x.gguf"))
    (tmp_path / "x.gguf").mkdir()
    others = [str(tmp_path / "x.gguf"), "demo:minilm", "", "file.py:name", str(tmp_path), "model.onnx"]
    assert not any(is_generator(target) for target in others)


def test_nothing_heavy_is_imported_to_tell() -> None:
    """Every command asks."""
    code = (
        "import sys; from carpool.models.generator import is_generator; is_generator('demo:smollm2');"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'gguf', 'numpy') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == "[]"
