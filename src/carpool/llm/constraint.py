"""What a text must look like: a JSON schema, a regular expression, a grammar, a JSON object, or one of some choices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from carpool.errors import InvalidItem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ConstraintKind: TypeAlias = Literal["json_schema", "regex", "grammar", "json_object", "choice"]

MAX_CONSTRAINT_CHARACTERS = 1_000_000
"""The longest schema, expression or grammar that is read at all."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """A form that the generated text must have; made by one of the class methods.

    Args:
        kind: how `text` is to be read.
        text: the schema or the choices as JSON, the expression, or the grammar.

    Raises:
        InvalidItem: the text is empty or too long.

    >>> Constraint.choice(["yes", "no"])
    Constraint(kind='choice', text='["yes", "no"]')
    """

    kind: ConstraintKind
    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise InvalidItem(f"the {self.kind} constraint is empty: say what the text must look like")
        if len(self.text) > MAX_CONSTRAINT_CHARACTERS:
            raise InvalidItem(
                f"the {self.kind} constraint has {len(self.text):,} characters: make it smaller, "
                f"{MAX_CONSTRAINT_CHARACTERS:,} are the most"
            )

    @classmethod
    def json_schema(cls, schema: Mapping[str, Any] | str) -> Constraint:
        """JSON that is valid under a schema.

        Args:
            schema: the schema, or its JSON.

        Raises:
            InvalidItem: it is no JSON schema's JSON.
        """
        return cls("json_schema", schema if isinstance(schema, str) else _to_json(schema))

    @classmethod
    def regex(cls, pattern: str) -> Constraint:
        """Text that an expression matches from end to end, without look-around or back-references."""
        return cls("regex", pattern)

    @classmethod
    def grammar(cls, grammar: str) -> Constraint:
        """Text of a context-free grammar, written for Lark or as llama.cpp's GBNF."""
        return cls("grammar", grammar)

    @classmethod
    def json_object(cls) -> Constraint:
        """Any JSON object."""
        return cls("json_object", '{"type": "object"}')

    @classmethod
    def choice(cls, choices: Sequence[str]) -> Constraint:
        """One of some texts.

        Raises:
            InvalidItem: there is none, or one is empty or no text.
        """
        given: Any = choices  # often from a request, whatever its type says
        if (
            not isinstance(given, list | tuple)
            or not given
            or not all(isinstance(text, str) and text for text in given)
        ):
            raise InvalidItem(f"the choices are {choices!r:.80}: give a list of one text or more, none of them empty")
        return cls("choice", json.dumps(list(choices), ensure_ascii=False))


def _to_json(schema: object) -> str:
    try:
        return json.dumps(schema, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidItem(f"the JSON schema can't be written as JSON: {error}") from error
