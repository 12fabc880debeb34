"""Read what a Hugging Face directory says about text: tokenizer, chat template, and the tokens that begin and end."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from carpool.errors import TargetError
from carpool.llm.json_object import read_object
from carpool.llm.loaded import TextFiles

_SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


def read_text_files(directory: Path, config: Mapping[str, Any]) -> TextFiles:
    """Read a directory's tokenizer.json, tokenizer_config.json, generation_config.json and chat template.

    Args:
        directory: a Hugging Face one.
        config: what its config.json says.

    Raises:
        TargetError: there is no tokenizer.json, or a file is malformed.
    """
    tokenizer = read_tokenizer(directory / "tokenizer.json")
    said = read_object(directory / "tokenizer_config.json")
    special = _special_tokens(read_object(directory / "special_tokens_map.json") | said)
    generation = read_object(directory / "generation_config.json")
    return TextFiles(
        tokenizer=tokenizer,
        chat_template=_chat_template(directory, said),
        special_tokens=special,
        eos_ids=_eos_ids(tokenizer, special, generation, config),
        bos_id=_bos_id(tokenizer, special, generation, config),
    )


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json; it neither cuts nor pads.

    Args:
        path: of the file.

    Raises:
        TargetError: it is missing or malformed.
    """
    if not path.is_file():
        raise TargetError(
            f"{path} is missing; without it text can't become tokens. Write it once with "
            f"transformers: AutoTokenizer.from_pretrained({str(path.parent)!r}).save_pretrained({str(path.parent)!r})"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:
        raise TargetError(f"{path} is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _special_tokens(said: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the special tokens: each is said plainly, or in an object with its flags."""
    found: dict[str, str] = {}
    for name in _SPECIAL:
        token = said.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[name] = text
    return found


def _chat_template(directory: Path, said: Mapping[str, Any]) -> str | None:
    path = directory / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TargetError(f"{path} can't be read: {error}") from error
    template = said.get("chat_template")
    if isinstance(template, list):  # several by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    if template is not None and not isinstance(template, str):
        raise TargetError(f"{directory / 'tokenizer_config.json'}: chat_template must be a text, not {template!r:.60}")
    return template


def _eos_ids(
    tokenizer: Tokenizer, special: Mapping[str, str], generation: Mapping[str, Any], config: Mapping[str, Any]
) -> frozenset[int]:
    """What generation_config.json says, else config.json, else the tokenizer."""
    for said in (generation.get("eos_token_id"), config.get("eos_token_id")):
        ids = said if isinstance(said, list) else [said]
        if any(isinstance(each, int) for each in ids):
            return frozenset(each for each in ids if isinstance(each, int))
    found = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    return frozenset() if found is None else frozenset([found])


def _bos_id(
    tokenizer: Tokenizer, special: Mapping[str, str], generation: Mapping[str, Any], config: Mapping[str, Any]
) -> int | None:
    if "bos_token" in special:
        return tokenizer.token_to_id(special["bos_token"])
    said = generation.get("bos_token_id", config.get("bos_token_id"))
    return said if isinstance(said, int) else None
