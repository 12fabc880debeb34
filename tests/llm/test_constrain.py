"""Text held to a form."""

from __future__ import annotations

import functools
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carpool.errors import ConfigError, InvalidItem
from carpool.llm.constrain import ConstraintCompiler
from carpool.llm.constraint import Constraint
from carpool.llm.sampled import Sampled
from carpool.llm.sampling import SamplerState, sample
from carpool.llm.sampling_params import SamplingParams
from tests.llm import tokenizers_to_test as kinds

EOS = 0
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
            "home": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/home"}]},
        },
        "required": ["name", "age", "tags", "home"],
        "additionalProperties": False,
        "$defs": {
            "home": {"type": "object", "properties": {"x": {"type": "boolean"}}, "additionalProperties": False},
        },
    },
    {"type": "array", "items": {"type": "string", "pattern": "^[a-f]{2,4}$"}, "minItems": 1, "maxItems": 4},
    {"type": "string", "format": "date"},
    {"const": {"a": [1, None, "ü"]}},
]


@functools.cache
def byte_level() -> tuple[Any, ConstraintCompiler]:
    """A tokenizer, and a compiler for a model that has a few more logits than it has tokens."""
    tokenizer = kinds.byte_level()
    return tokenizer, ConstraintCompiler(tokenizer, frozenset({EOS}), tokenizer.get_vocab_size() + 5)


@functools.cache
def sentence_piece() -> tuple[Any, ConstraintCompiler]:
    """The same of a SentencePiece-like one."""
    tokenizer = kinds.sentence_piece(strips=False)
    return tokenizer, ConstraintCompiler(tokenizer, frozenset({2}), tokenizer.get_vocab_size())


def write(
    made: tuple[Any, ConstraintCompiler], constraint: Constraint, seed: int, *, most: int = 400, scale: float = 3.0
) -> tuple[str, SamplerState]:
    """What a model of random weights writes under a constraint; the state tells whether it came to its end."""
    tokenizer, compiler = made
    state = SamplerState(
        SamplingParams(seed=seed, constraint=constraint, temperature=1.0),
        eos_ids=compiler._eos_ids,
        matcher=compiler.matcher(constraint),
    )
    generator = torch.Generator().manual_seed(seed)
    tokens: list[int] = []
    while not state.is_complete and len(tokens) < most:
        logits = scale * torch.randn(1, compiler._num_tokens, generator=generator)
        (outcome,) = sample(logits, [state])
        assert isinstance(outcome, Sampled), outcome
        tokens.append(outcome.token)
    return tokenizer.decode([token for token in tokens if token not in compiler._eos_ids]), state


@pytest.mark.parametrize("made", [byte_level, sentence_piece])
@pytest.mark.parametrize("schema", SCHEMAS, ids=["object", "array", "date", "constant"])
def test_random_weights_write_json_that_is_valid_under_its_schema(made: Any, schema: dict[str, Any]) -> None:
    """Whatever the model would rather say, what it says parses and is valid (by another library)."""
    for seed in range(8):
        text, state = write(made(), Constraint.json_schema(schema), seed)
        assert state.is_complete
        jsonschema.validate(json.loads(text), schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("pattern", [r"[a-c]{3}-\d{2,4}", r"(yes|no)(, (yes|no))*\.", r"\p{Lu}\w{0,5}"])
def test_random_weights_write_what_the_expression_matches(pattern: str) -> None:
    """From end to end, and it ends where nothing more can follow."""
    for seed in range(8):
        text, state = write(byte_level(), Constraint.regex(pattern), seed)
        assert state.is_complete
        assert re.fullmatch(pattern.replace(r"\p{Lu}", r"[^\W\d_a-z]"), text)


@pytest.mark.parametrize(
    "grammar",
    [
        'start: sum\nsum: number ("+" number)*\nnumber: /[0-9]{1,3}/ | "(" sum ")"\n',
        'root ::= sum\nsum ::= number ("+" number)*\nnumber ::= [0-9] [0-9]? [0-9]? | "(" sum ")"\n',
    ],
    ids=["lark", "gbnf"],
)
def test_random_weights_write_sentences_of_the_grammar(grammar: str) -> None:
    """Every text that came to its end is a sum that Python can add."""
    num_ended = 0
    for seed in range(12):
        text, state = write(byte_level(), Constraint.grammar(grammar), seed, most=60)
        num_ended += state.is_complete
        if state.is_complete:
            assert re.fullmatch(r"[0-9+()]+", text)
            assert eval(re.sub(r"0*(\d+)", r"\1", text)) >= 0  # noqa: S307 - of digits, plus and brackets
    assert num_ended > 3


def test_one_of_the_choices_is_written() -> None:
    """With quotation marks, backslashes, line ends and characters of several bytes in them; in the end each of them."""
    choices = ["yes", "no", 'say "\\n"', "line\nend", "für 5 €", "/x/", "日本"]
    written = {write(byte_level(), Constraint.choice(choices), seed)[0] for seed in range(60)}
    assert written == set(choices)


def test_a_json_object_is_written() -> None:
    """Of any content."""
    texts = [write(byte_level(), Constraint.json_object(), seed, most=200) for seed in range(12)]
    ended = [json.loads(text) for text, state in texts if state.is_complete]
    assert len(ended) > 1
    assert all(isinstance(value, dict) for value in ended)


def test_blanks_do_not_go_on_for_ever() -> None:
    """A model that would write nothing but spaces is made to go on after a few."""
    _, compiler = byte_level()
    state = SamplerState(
        SamplingParams(temperature=0), matcher=compiler.matcher(Constraint.json_schema({"type": "array", "items": {}}))
    )
    tokenizer, _ = byte_level()
    logits = torch.zeros(1, compiler._num_tokens)
    logits[0, tokenizer.encode(" ").ids[0]] = 9.0
    logits[0, tokenizer.encode("]").ids[0]] = 5.0
    tokens = []
    while not state.is_complete:
        (outcome,) = sample(logits.clone(), [state])
        assert isinstance(outcome, Sampled)
        tokens.append(outcome.token)
    assert tokenizer.decode(tokens) == "[" + " " * 40 + "]"


WRONG = [
    (Constraint("json_schema", '{"type":'), "the json_schema constraint can't be read: EOF while parsing"),
    (Constraint.json_schema({"type": "objec"}), "the json_schema constraint can't be used: Invalid type: objec"),
    (Constraint.json_schema({"not": {}}), 'the json_schema constraint can\'t be used: Unimplemented keys: ["not"]'),
    (Constraint.json_schema({"enum": []}), "the json_schema constraint can't be used: Unsatisfiable schema"),
    (Constraint.regex("(" * 10_000 + "a" + ")" * 10_000), "the regex constraint can't be used: at 1(8): invalid regex"),
    (Constraint.regex("[0-"), "unclosed character class"),
    (Constraint.regex("(?=a)b"), "look-around, including look-ahead and look-behind, is not supported"),
    (Constraint.grammar("start: nothing"), 'unknown name: "nothing"'),
    (Constraint.grammar(")("), "the grammar constraint can't be"),
    (Constraint.grammar("start: start"), "the grammar constraint can't be used: NoExtension"),
    (Constraint.json_schema({"$ref": "#"}), "the json_schema constraint can't be used: NoExtension"),
    (Constraint.json_schema({"$ref": "https://elsewhere.test/x"}), "is not present in a registry"),
    (Constraint.regex("\ud800"), "the regex constraint can't be read"),
]


@pytest.mark.parametrize(("constraint", "message"), WRONG)
def test_a_wrong_form_is_refused_with_its_trouble(constraint: Constraint, message: str) -> None:
    """The message says which constraint, and what is wrong in it."""
    _, compiler = byte_level()
    with pytest.raises(InvalidItem) as refused:
        compiler.matcher(constraint)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 400


def test_sequences_of_one_form_do_not_share_their_places() -> None:
    """A form is compiled once, and each sequence goes through it by itself; several rows are masked at once."""
    tokenizer, compiler = byte_level()
    constraint = Constraint.choice(["ab", "xy"])
    first, second = compiler.matcher(constraint), compiler.matcher(constraint)
    states = [SamplerState(SamplingParams(temperature=0), matcher=matcher) for matcher in (first, second)]
    assert not any(state.only_argmax for state in states)
    wishes = torch.zeros(2, compiler._num_tokens)
    a, x = (tokenizer.encode(letter).ids[0] for letter in "ax")
    wishes[0, a] = wishes[1, x] = 9.0
    assert sample(wishes, states) == [Sampled(a), Sampled(x)]
    outcomes = sample(torch.zeros(2, compiler._num_tokens), states)
    assert [tokenizer.decode([outcome.token]) for outcome in outcomes if isinstance(outcome, Sampled)] == ["b", "y"]
    assert all(state.is_complete for state in states)


def test_a_token_that_the_form_forbids_is_told_of() -> None:
    """A sequence that was led astray fails by itself, with words."""
    tokenizer, compiler = byte_level()
    state = SamplerState(SamplingParams(), matcher=compiler.matcher(Constraint.regex("a+")))
    trouble = state.advance(tokenizer.encode("x").ids[0])
    assert str(trouble).startswith("the regex constraint can't be followed any further: ")
    (outcome,) = sample(torch.zeros(1, compiler._num_tokens), [state])
    assert isinstance(outcome, InvalidItem)
    assert not state.is_complete


@settings(max_examples=20)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=150, unique=True))
def test_only_the_forms_that_were_used_last_are_kept(order: list[int]) -> None:
    """A server that is sent ever new forms does not grow with them."""
    _, compiler = byte_level()
    for number in order:
        compiler.matcher(Constraint.regex(f"a{{{number + 1}}}"))
    assert list(compiler._kept)[-1] == Constraint.regex(f"a{{{order[-1] + 1}}}")
    assert len(compiler._kept) <= 64


def test_several_threads_may_ask_at_once() -> None:
    """For forms that are new and forms that are known, and each sequence still goes its own way."""
    tokenizer, _ = byte_level()
    compiler = ConstraintCompiler(tokenizer, frozenset({EOS}), tokenizer.get_vocab_size())
    forms = [Constraint.choice([f"a{number % 5}"]) for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        matchers = list(pool.map(compiler.matcher, forms))
    for number, matcher in enumerate(matchers):
        for character in f"a{number % 5}":
            assert matcher.accept(tokenizer.encode(character).ids[0]) is None
        assert matcher.is_complete


def test_a_tokenizer_may_have_tokens_that_the_model_has_not() -> None:
    """Such as one for padding that was added later; nor need the tokens that end a text be there."""
    tokenizer, _ = byte_level()
    width = tokenizer.get_vocab_size() - 9
    compiler = ConstraintCompiler(tokenizer, frozenset({EOS, 10**6}), width)
    state = SamplerState(SamplingParams(temperature=0), matcher=compiler.matcher(Constraint.regex("[ab]{3}")))
    tokens = []
    while not state.is_complete:
        (outcome,) = sample(torch.zeros(1, width), [state])
        assert isinstance(outcome, Sampled)
        tokens.append(outcome.token)
    assert re.fullmatch("[ab]{3}", tokenizer.decode(tokens))


def test_a_tokenizer_that_cannot_be_read_is_told_of() -> None:
    """The message says that no constraint works with this model."""
    compiler = ConstraintCompiler(kinds.words(), frozenset(), 3)
    with pytest.raises(ConfigError, match="llguidance can't read this model's tokenizer"):
        compiler.matcher(Constraint.regex("a"))
