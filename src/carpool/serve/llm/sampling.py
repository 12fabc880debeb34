"""From a request to how its tokens are chosen: limits, stops, and the form that the answer must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carpool.errors import CarpoolError, InvalidItem
from carpool.llm.constraint import Constraint
from carpool.llm.sampling_params import SamplingParams
from carpool.serve.faults import Fault, bad_request, to_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carpool.serve.llm.requests import GenerationRequest

_USUAL = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_ZERO = ("presence_penalty", "frequency_penalty", "min_tokens")
_AS_GIVEN = ("seed", "prompt_logprobs")
_FIELDS = {"include_stop": "include_stop_str_in_output", "the": "logit_bias"}  # what messages begin with


def sampling_params(request: GenerationRequest, *, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    """Say how the tokens of a request are chosen.

    Args:
        request: as decoded.
        max_tokens: the most tokens to generate; None for as many as fit.
        logprobs: how many of the most likely tokens to tell of beside the chosen one; None tells of none.

    Raises:
        Fault: a value is out of its range; `param` is its field.
    """
    given: dict[str, Any] = {name: _or(getattr(request, name), usual) for name, usual in _USUAL.items()}
    given |= {name: _or(getattr(request, name), 0) for name in _ZERO}
    given |= {name: getattr(request, name) for name in _AS_GIVEN}
    stop = request.stop
    constraint = read_constraint(request)
    bias = _bias(request.logit_bias)
    try:
        return SamplingParams(
            **given,
            n=_or(request.n, 1),
            max_tokens=max_tokens,
            logprobs=logprobs,
            logit_bias=bias,
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            stop_token_ids=tuple(request.stop_token_ids or ()),
            include_stop=bool(request.include_stop_str_in_output),
            ignore_eos=bool(request.ignore_eos),
            constraint=constraint,
        )
    except CarpoolError as error:
        raise named(error, request) from error


def named(error: CarpoolError, request: GenerationRequest) -> Fault:
    """Return a fault that names the field which an error begins with, if it is one of the request's.

    Args:
        error: such as "top_p is 2: it must be ...".
        request: whose fields they are.
    """
    fault = to_fault(error)
    word = str(fault).split(" ", 1)[0]
    field = _FIELDS.get(word, word)
    if fault.param or not hasattr(request, field):
        return fault
    return Fault(fault.status, str(fault), code=fault.code, param=field, retry_after_s=fault.retry_after_s)


def _or(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def _bias(given: dict[str, float] | None) -> dict[int, float]:
    bias = {}
    for token, value in (given or {}).items():
        if not token.isascii() or not token.isdigit() or len(token) > 10:  # noqa: PLR2004 - no vocabulary is larger
            raise bad_request(f"logit_bias has {token[:40]!r}: its keys are ids of tokens", param="logit_bias")
        bias[int(token)] = value
    return bias


# -------------------------------------------------------------------------------------------- the answer's form


def form_field(request: GenerationRequest) -> str:
    """Return the field that says what the answer must look like; empty where none does.

    Args:
        request: as decoded.
    """
    return next((name for name in _READERS if getattr(request, name) is not None), "")


def read_constraint(request: GenerationRequest) -> Constraint | None:
    """Read the form that the answer must have, by whichever of the fields says it.

    Args:
        request: as decoded.

    Raises:
        Fault: it is none, or two fields say one.
    """
    found = {}
    for name, read in _READERS.items():
        value = getattr(request, name)
        constraint = None if value is None else _read(name, read, value)
        if constraint is not None:
            found[name] = constraint
    if len(found) > 1:
        raise bad_request(f"{' and '.join(found)} each say what the answer must look like: give one", param=[*found][1])
    return next(iter(found.values()), None)


def _read(name: str, read: Callable[[Any], Constraint | None], value: Any) -> Constraint | None:
    try:
        return read(value)
    except InvalidItem as error:
        raise bad_request(f"{name}: {error}", param=name) from error


def _of_response_format(given: dict[str, Any]) -> Constraint | None:
    kind = given.get("type")
    match kind:
        case "text":
            return None
        case "json_object":
            return Constraint.json_object()
        case "json_schema":
            return Constraint.json_schema(_schema(given))
    known = "text, json_object or json_schema"
    raise bad_request(f"response_format.type is {kind!r:.60}: give {known}", param="response_format")


def _schema(given: dict[str, Any]) -> Any:
    inner = given.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    if not isinstance(schema, dict):
        raise bad_request(
            "response_format.json_schema.schema is not there, or no object: give the JSON schema of the answer, as in "
            '{"type": "json_schema", "json_schema": {"name": "answer", "schema": {...}}}',
            param="response_format",
        )
    return schema


def _of_json(given: Any) -> Constraint:
    if not isinstance(given, dict | str):
        raise bad_request(f"the JSON schema is {given!r:.60}: give an object, or its JSON", param="guided_json")
    return Constraint.json_schema(given)


def _of_structured(given: dict[str, Any]) -> Constraint | None:
    told = {key: value for key, value in given.items() if value is not None and value is not False}
    if len(told) != 1 or not set(told) <= set(_STRUCTURED):
        said = ", ".join(map(str, given)) or "nothing"
        known = ", ".join(_STRUCTURED)
        raise bad_request(f"structured_outputs says {said[:100]}: give one of {known}", param="structured_outputs")
    key, value = next(iter(told.items()))
    if key in ("regex", "grammar") and not isinstance(value, str):
        raise bad_request(f"structured_outputs.{key} is {value!r:.60}: give a text", param="structured_outputs")
    return _STRUCTURED[key](value)


_STRUCTURED: Mapping[str, Callable[[Any], Constraint]] = {
    "json": _of_json,
    "regex": Constraint.regex,
    "choice": Constraint.choice,
    "grammar": Constraint.grammar,
    "json_object": lambda _value: Constraint.json_object(),
}
_READERS: Mapping[str, Callable[[Any], Constraint | None]] = {
    "response_format": _of_response_format,
    "structured_outputs": _of_structured,
    "guided_json": _of_json,
    "guided_regex": Constraint.regex,
    "guided_choice": Constraint.choice,
    "guided_grammar": Constraint.grammar,
}
