"""Read what a Hugging Face or sentence-transformers directory says about its encoder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carpool.errors import TargetError

# Named so in a directory's `pooling_mode_*` flags, in the order in which several are joined.
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# These count positions from the padding token's id on, so that as many of them hold no token.
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text"}
_KNOWN_MODULES = ("Transformer", "Pooling", "Normalize")
_NO_LIMIT = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderFiles:
    """How a directory wants its texts to become vectors.

    Args:
        directory: where config.json, the tokenizer and the weights are.
        num_tokens: the size of the vocabulary; 0 where that is not said.
        max_length: the most tokens of a text, special ones included; a longer text is cut.
        pooling: how the tokens' vectors become one, several being joined end to end.
        normalize: whether the result has length 1.
        lower_case: whether texts are lower-cased first.
        prompt: what stands before every text.
        first_position: the position of a text's first token, as its architecture counts.
    """

    directory: Path
    num_tokens: int
    max_length: int
    pooling: tuple[str, ...]
    normalize: bool
    lower_case: bool
    prompt: str
    first_position: int = 0


def read_encoder_files(directory: Path) -> EncoderFiles:
    """Read a directory's JSON files; without `modules.json`, the mean of the tokens' vectors is meant.

    Args:
        directory: a Hugging Face or sentence-transformers directory.

    Raises:
        TargetError: a file is missing or malformed, or asks for a step that is not known here.
    """
    modules = _modules(directory)
    transformer = directory / modules.get("Transformer", "")
    config = _read(transformer / "config.json", required=True)
    own = _read(transformer / "sentence_bert_config.json")
    pooling = _pooling(directory / modules["Pooling"]) if "Pooling" in modules else ("mean",)
    return EncoderFiles(
        directory=transformer,
        num_tokens=int(config.get("vocab_size") or 0),
        max_length=_max_length(own, config, _read(transformer / "tokenizer_config.json")),
        pooling=pooling,
        normalize="Normalize" in modules,
        lower_case=bool(own.get("do_lower_case", False)),
        prompt=_prompt(directory),
        first_position=_first_position(config),
    )


def _modules(directory: Path) -> dict[str, str]:
    """The steps of `modules.json`: the last part of each one's type, and its folder."""
    path = directory / "modules.json"
    listed = _parsed(path) if path.is_file() else []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise TargetError(f"{path} must be a list of modules, each with a type and a path")
    steps = {str(entry.get("type", "")).rpartition(".")[2]: str(entry.get("path", "")) for entry in listed}
    unknown = [name for name in steps if name not in _KNOWN_MODULES]
    if unknown:
        raise TargetError(
            f"{path} asks for the step {unknown[0]!r}; known are {', '.join(_KNOWN_MODULES)}. "
            f"Wrap the model in a function over a list of texts instead, as in file.py:name"
        )
    return steps


def _pooling(directory: Path) -> tuple[str, ...]:
    path = directory / "config.json"
    config = _read(path, required=True)
    named = config.get("pooling_mode")
    if named is None:
        modes = tuple(mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag))
    else:
        modes = (named,) if isinstance(named, str) else tuple(named)
    known = tuple(_POOLING_FLAGS.values())
    if not modes or any(mode not in known for mode in modes):
        raise TargetError(f"{path} asks for the pooling {list(modes)}; it must name at least one of {', '.join(known)}")
    if config.get("include_prompt") is False and _prompt(directory.parent):
        raise TargetError(f"{path} leaves the prompt's tokens out of the pooling; that is not supported")
    return modes


def _prompt(directory: Path) -> str:
    said = _read(directory / "config_sentence_transformers.json")
    prompts, chosen = said.get("prompts") or {}, said.get("default_prompt_name")
    return str(prompts.get(chosen, "")) if chosen is not None else ""


def _max_length(own: dict[str, Any], config: dict[str, Any], tokenizer: dict[str, Any]) -> int:
    """The directory's own limit, else the tokenizer's, and never more than there are positions."""
    asked = own.get("max_seq_length") or tokenizer.get("model_max_length") or _NO_LIMIT
    positions = int(config.get("max_position_embeddings") or _NO_LIMIT)
    limit = min(int(asked), positions - _first_position(config))
    return limit if limit < _NO_LIMIT // 2 else 512


def _first_position(config: dict[str, Any]) -> int:
    """Where positions begin: after as many as hold no token."""
    if config.get("model_type") not in _OFFSET_POSITIONS:
        return 0
    padding = config.get("pad_token_id")
    return 2 if padding is None else int(padding) + 1


def _read(path: Path, *, required: bool = False) -> dict[str, Any]:
    if not path.is_file():
        if required:
            raise TargetError(f"{path} is missing; an encoder's directory needs it")
        return {}
    said = _parsed(path)
    if not isinstance(said, dict):
        raise TargetError(f"{path} must hold a JSON object, not {type(said).__name__}")
    return said


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise TargetError(f"{path} is not JSON: {error}") from error
