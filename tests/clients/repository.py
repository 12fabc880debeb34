"""A repository of the models that other people's clients are tried with."""

from __future__ import annotations

import json
from pathlib import Path

from tests.llm.tiny import save, tiny_model

MODELS = Path(__file__).with_name("models.py")
TEMPLATE = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def write_repository(directory: Path) -> Path:
    """Write what tells ``carpool serve`` of four models and a language model, and give where."""
    for name, target in (("pair", "Pair"), ("embed", "embed"), ("upper", "upper"), ("slow", "Slow")):
        (directory / name).mkdir()
        told = f'[model]\ntarget = "{MODELS.as_posix()}:{target}"\n\n[policy]\nmax_batch_size = 8\n'
        (directory / name / "carpool.toml").write_text(told, encoding="utf-8")
    write_language_model(directory / "lm")
    return directory


def write_language_model(directory: Path) -> Path:
    """Write a small language model with random weights, and what tells of it; give where."""
    directory.mkdir()
    save(tiny_model("llama"), directory / "weights")
    told_of_tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "chat_template": TEMPLATE}
    (directory / "weights" / "tokenizer_config.json").write_text(json.dumps(told_of_tokens))
    told = '[model]\ntarget = "weights"\ndtype = "float32"\nnum_threads = 1\n\n[llm]\nkv_memory = "4MiB"\n'
    (directory / "carpool.toml").write_text(told, encoding="utf-8")
    return directory
