"""What a key takes, in words, from its type and limits."""

from __future__ import annotations

from typing import Any

from msgspec import inspect


def in_words(annotation: Any) -> str:
    """Say what values an annotation takes, to go on after "it must be".

    Args:
        annotation: A type of numbers, text, lists or tables, with limits; that it may be None is left out.

    Example:
        >>> from typing import Annotated
        >>> from msgspec import Meta
        >>> in_words(Annotated[int, Meta(ge=1)] | None)
        'a whole number of at least 1'
    """
    return _words(inspect.type_info(annotation))


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.Metadata():
            words = _words(kind.type)
        case inspect.UnionType():
            words = " or ".join(_words(one) for one in kind.types if not isinstance(one, inspect.NoneType))
        case inspect.IntType():
            words = f"a whole number{_limits(kind)}"
        case inspect.FloatType():
            words = f"a number{_limits(kind)}"
        case inspect.LiteralType():
            words = f"one of {', '.join(map(str, kind.values))}"
        case inspect.VarTupleType():
            words = f"a list, each part {_words(kind.item_type)}"
        case inspect.BoolType():
            words = "true or false"
        case inspect.DataclassType():
            words = "a table of its own keys"
        case inspect.DictType():
            words = f"a table, each value {_words(kind.value_type)}"
        case _:
            assert isinstance(kind, inspect.StrType), f"no key takes {kind}"
            words = _text(kind)
    return words


def _text(kind: inspect.StrType) -> str:
    if kind.pattern:
        return f"text of the form {kind.pattern}"
    return "text that is not empty" if kind.min_length else "text"


def _limits(kind: inspect.IntType | inspect.FloatType) -> str:
    if kind.ge is not None and kind.le is not None:
        return f" from {kind.ge} to {kind.le}"
    if kind.gt is not None:
        return f" above {kind.gt}"
    return "" if kind.ge is None else f" of at least {kind.ge}"
