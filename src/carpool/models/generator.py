"""Telling a model that generates text, token by token, from one that answers an item in one call."""

import json
import re
from pathlib import Path
from typing import Any

DEMO = "demo:smollm2"
"""The generator to try things with."""

_CAUSAL = re.compile(r"(ForCausalLM|LMHeadModel)$")
_GENERATES = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")


def is_generator(target: str) -> bool:
    """Whether a TARGET names a causal language model, by its form or its config.json; nothing heavy is imported.

    Args:
        target: as for `load_target`, `demo:smollm2`, or a `.gguf` file.

    >>> is_generator("demo:smollm2"), is_generator("demo:minilm"), is_generator("weights/tiny.gguf")
    (True, False, True)
    """
    if target == DEMO:
        return True
    path = Path(target)
    if path.suffix == ".gguf":
        return not path.is_dir()
    if not target or (path / "modules.json").is_file():  # the latter makes vectors of what generates
        return False
    return causal_architecture(read_architectures(path)) is not None


def causal_architecture(architectures: list[str]) -> str | None:
    """The architecture that is a causal language model, if one is.

    Args:
        architectures: as config.json names them.
    """
    return next((name for name in architectures if _CAUSAL.search(name)), None)


def generating_architecture(architectures: list[str]) -> str | None:
    """The architecture that generates in any way, one with an encoder before its decoder included.

    Args:
        architectures: as config.json names them.
    """
    return next((name for name in architectures if _GENERATES.search(name)), None)


def read_architectures(directory: Path) -> list[str]:
    """What a directory's config.json calls its architectures; none where there is no such file, or it is malformed.

    Args:
        directory: of a model.
    """
    try:
        said: Any = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return []
    listed = said.get("architectures") if isinstance(said, dict) else None
    return [str(name) for name in listed] if isinstance(listed, list) else []
