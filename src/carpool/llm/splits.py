"""How a byte-level vocabulary wants a text cut before its pieces are merged, by the names that GGUF files use.

Which name stands for which pattern: llama.cpp's vocabulary, which took them from each model's tokenizer.json.
"""

from typing import Any

from tokenizers import Regex, pre_tokenizers

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_ENDINGS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_LETTERS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TITLE = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+"
_CAPITALS = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_SIGNS_OR_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"

_QWEN2 = rf"{_WORDS}|{_LETTERS}|\p{{N}}|{_SIGNS}|{_ENDINGS}"
_LLAMA3 = rf"{_WORDS}|{_LETTERS}|\p{{N}}{{1,3}}|{_SIGNS}|{_ENDINGS}"
_TEKKEN = rf"{_TITLE}|{_CAPITALS}|\p{{N}}|{_SIGNS_OR_SLASH}|{_ENDINGS}"
_GPT4O = rf"{_TITLE}{_WORDS}?|{_CAPITALS}{_WORDS}?|\p{{N}}{{1,3}}|{_SIGNS_OR_SLASH}|{_ENDINGS}"

_PLAIN = ("default", "gpt-2", "gpt2", "phi-2", "olmo", "mpt", "jais", "trillion", "granite-docling")
_BY_DIGIT = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b")
_PATTERNS = {
    _QWEN2: ("qwen2", "stablelm2", "hunyuan", "deepseek-r1-qwen", "megrez"),
    _LLAMA3: ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "dbrx", "smaug-bpe", "lfm2"),
    _TEKKEN: ("tekken",),
    _GPT4O: ("gpt-4o", "llama4"),
}
_WHOLE_FIRST = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "lfm2", "tekken", "gpt-4o", "llama4")
_BEGUN = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "lfm2", "tekken")


def splitter(name: str) -> Any:
    """What cuts a text; None for a name that is not known.

    Args:
        name: as in `tokenizer.ggml.pre`.
    """
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name in _PLAIN:
        return whole
    if name in _BY_DIGIT:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), whole])
    pattern = next((pattern for pattern, names in _PATTERNS.items() if name in names), None)
    if pattern is None:
        return None
    parts = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), parts])


def ignores_merges(name: str) -> bool:
    """Whether a part that is a token as it stands is taken whole, whatever the merges would make of it.

    Args:
        name: as in `tokenizer.ggml.pre`.
    """
    return name in _WHOLE_FIRST


def adds_bos(name: str) -> bool:
    """Whether a text begins with the token for that, where the file does not say.

    Args:
        name: as in `tokenizer.ggml.pre`.
    """
    return name in _BEGUN
