"""Make a tokenizer out of the vocabulary in a GGUF file."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from carpool.errors import TargetError
from carpool.llm.gguf_file import GGUFFile
from carpool.llm.loaded import TextFiles
from carpool.llm.splits import adds_bos, ignores_merges, splitter
from carpool.llm.text_files import read_tokenizer

_CONTROL, _USER_DEFINED = 3, 4
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
_ENDS = ("eos", "eot", "eom")
_SPACE = "\u2581"  # SentencePiece's mark of a space


def gguf_text_files(file: GGUFFile) -> TextFiles:
    """What a file says about text.

    Args:
        file: whose metadata tell.

    Raises:
        TargetError: its kind of vocabulary is not known here, and there is no tokenizer.json beside it.
    """
    said = {
        key.removeprefix("tokenizer.ggml."): value
        for key, value in file.metadata.items()
        if key.startswith("tokenizer")
    }
    tokens = said.get("tokens")
    if not isinstance(tokens, list):
        raise TargetError(f"{file.path} has no vocabulary; give the model's Hugging Face directory instead")
    ids = {name: int(said[f"{key}_token_id"]) for name, key in _SPECIAL.items() if f"{key}_token_id" in said}
    template = said.get("tokenizer.chat_template")
    return TextFiles(
        tokenizer=_tokenizer(file, said),
        chat_template=str(template) if template else None,
        special_tokens={name: tokens[number] for name, number in ids.items() if number < len(tokens)},
        eos_ids=frozenset(int(said[f"{end}_token_id"]) for end in _ENDS if f"{end}_token_id" in said),
        bos_id=ids.get("bos_token"),
    )


def _tokenizer(file: GGUFFile, said: Mapping[str, Any]) -> Tokenizer:
    kind, split = said.get("model"), str(said.get("pre", "default"))
    if kind == "gpt2" and splitter(split) is not None:
        tokenizer = _byte_level(said, split)
    elif kind == "llama":
        tokenizer = _gemma(said) if file.architecture.startswith("gemma") else _sentencepiece(said, file.architecture)
    else:
        return _beside(file, f"{kind}, {split}" if kind == "gpt2" else str(kind))
    _add_tokens(tokenizer, said)
    _add_ends(tokenizer, said, bos=kind == "llama" or adds_bos(split))
    return tokenizer


def _beside(file: GGUFFile, kind: str) -> Tokenizer:
    path = file.path.with_name("tokenizer.json")
    if path.is_file():
        return read_tokenizer(path)
    raise TargetError(
        f"{file.path} has a vocabulary of the kind {kind!r}, which is not read from GGUF; put the model's "
        f"tokenizer.json beside it, or give its Hugging Face directory"
    )


def _byte_level(said: Mapping[str, Any], split: str) -> Tokenizer:
    """Pairs of bytes, merged in the order that the file lists."""
    merges = [tuple(merge.split(" ", 1)) for merge in said["merges"]]
    vocabulary = {token: number for number, token in enumerate(said["tokens"])}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, ignore_merges=ignores_merges(split)))
    tokenizer.pre_tokenizer = splitter(split)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(said: Mapping[str, Any], architecture: str) -> Tokenizer:
    """Pieces that are merged by their scores; what is in none is written byte by byte."""
    tokens = said["tokens"]
    scores = dict(zip(tokens, map(float, said["scores"]), strict=True))
    tokenizer = _pieces(tokens, scores)
    prefixed = bool(said.get("add_space_prefix", True))
    if architecture == "phi3" and prefixed:  # it keeps a space that a text begins with
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), normalizers.Replace(" ", _SPACE)])
    else:
        scheme = "first" if prefixed else "never"
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme=scheme, split=False)
    strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
    tokenizer.decoder = decoders.Sequence([*_plain_decoders(), *strip])
    return tokenizer


def _gemma(said: Mapping[str, Any]) -> Tokenizer:
    """Pieces that are merged in the order of the vocabulary, without a space before the first."""
    tokens = [_SPACE * len(token) if token.isspace() and set(token) == {" "} else token for token in said["tokens"]]
    tokenizer = _pieces(tokens, {token: -float(place) for place, token in enumerate(tokens)})
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(_plain_decoders())
    return tokenizer


def _pieces(tokens: list[str], scores: Mapping[str, float]) -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = "<unk>" if "<unk>" in vocabulary else None
    merges = _merges(vocabulary, scores)
    return Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))


def _plain_decoders() -> list[Any]:
    return [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]


def _merges(vocabulary: Mapping[str, int], scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, the best piece first."""
    found: list[tuple[float, int, int, str, str]] = []
    for piece, score in scores.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                found.append((-score, vocabulary[left], vocabulary[right], left, right))
    found.sort(key=lambda each: (each[0], -len(each[3]), -len(each[4])))
    return [(left, right) for *_, left, right in found]


def _add_tokens(tokenizer: Tokenizer, said: Mapping[str, Any]) -> None:
    """Let what the file marks as control, or as the user's own, stay whole wherever it stands in a text."""
    kinds = said.get("token_type")
    if kinds is None:
        return
    marked = [
        (token, int(kind))
        for token, kind in zip(said["tokens"], kinds, strict=True)
        if kind in (_CONTROL, _USER_DEFINED) and tokenizer.token_to_id(token) is not None  # Gemma's spaces are respelt
    ]
    special = [AddedToken(token, normalized=False, special=True) for token, kind in marked if kind == _CONTROL]
    plain = [AddedToken(token, normalized=False, special=False) for token, kind in marked if kind == _USER_DEFINED]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(plain)


def _add_ends(tokenizer: Tokenizer, said: Mapping[str, Any], *, bos: bool) -> None:
    """Put the tokens that begin and end a text around it, where the file wants them."""
    first = _end(said, "bos", wanted=bool(said.get("add_bos_token", bos)))
    last = _end(said, "eos", wanted=bool(said.get("add_eos_token", False)))
    tokens = [*first, *last]
    if tokens:
        around = [token for token, _ in first], [token for token, _ in last]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*around[0], "$A", *around[1]],
            pair=[*around[0], "$A", *around[1], *(f"{token}:1" for token in around[0]), "$B:1", *around[1]],
            special_tokens=tokens,
        )


def _end(said: Mapping[str, Any], name: str, *, wanted: bool) -> list[tuple[str, int]]:
    number = said.get(f"{name}_token_id")
    return [(said["tokens"][number], int(number))] if wanted and number is not None else []
