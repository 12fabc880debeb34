"""Prompts as callers of the library give them: texts or token ids, one or many."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from carpool.errors import InvalidItem

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FORMS = "give a text, or a list of token ids"


def as_many(prompts: Any) -> list[Any]:
    """Return prompts as a list, one alone as a list of one.

    Args:
        prompts: a text or token ids, or some of them.

    Raises:
        InvalidItem: it is neither.

    >>> as_many("Once"), as_many([1, 2]), as_many(["Once", [1, 2]])
    (['Once'], [[1, 2]], ['Once', [1, 2]])
    """
    plain = _plain(prompts)
    if isinstance(plain, str):
        return [plain]
    if not isinstance(plain, Iterable):
        raise InvalidItem(f"the prompts are {prompts!r:.60}: {_FORMS}, or several of them")
    many = list(plain)
    return [many] if many and isinstance(many[0], int) else many


def token_ids(prompt: Any, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens of a prompt; whether the model has them is not asked here.

    Args:
        prompt: a text, or token ids.
        tokenizer: the model's.

    Raises:
        InvalidItem: it is neither, or the text holds half a character.
    """
    plain = _plain(prompt)
    if isinstance(plain, str):
        try:
            plain.encode()
        except UnicodeEncodeError as error:
            raise InvalidItem(
                f"the prompt has half a surrogate pair at character {error.start}, which is no text: decode it with "
                "errors='replace'"
            ) from error
        return tuple(tokenizer.encode(plain).ids)
    if not isinstance(plain, Iterable):
        raise InvalidItem(f"a prompt is {prompt!r:.60}: {_FORMS}")
    return tuple(plain)


def _plain(given: Any) -> Any:
    """Return arrays and tensors as lists."""
    return given.tolist() if hasattr(given, "tolist") else given
