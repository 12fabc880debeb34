"""The keys of `[llm]`: how a language model generates, for many requests at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta

from carpool.config.leaf import Count, Items, length_of_time_s, some
from carpool.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmTable:
    """`[llm]`: how a language model generates, for many requests at a time."""

    num_slots: Annotated[Count, Meta(description="most sequences that generate at a time")] = 64
    token_budget: Annotated[
        Count, Meta(description="most tokens in a step; a longer prompt is read in pieces, between others' tokens")
    ] = 512
    max_waiting: Annotated[Items, Meta(description="most sequences that wait for a slot; one more is answered 429")] = (
        1024
    )
    max_length: Annotated[
        Count | None,
        Meta(description="longest prompt with what is generated, in tokens; by default what the model was made for"),
    ] = None
    kv_memory: Annotated[
        str | int | None,
        Meta(description="memory of the KV cache, such as `2GiB`; by default what can be used, within reason"),
        some(parse_bytes),
    ] = None
    block_size: Annotated[Count, Meta(description="tokens in a block of the KV cache")] = 32
    prefix_caching: Annotated[
        bool, Meta(description="whether what prompts have in common at their beginning is read but once")
    ] = True
    chunked_prefill: Annotated[
        bool, Meta(description="whether prompts are read in pieces; else the longest must fit `token_budget`")
    ] = True
    deterministic: Annotated[
        bool, Meta(description="whether a request's logits are the same bit for bit whatever else is in the batch")
    ] = False
    weights: Annotated[
        Literal["as_is", "int8"], Meta(description="`as_is`, or `int8`: weights rounded to 8 bits, in half the memory")
    ] = "as_is"
    ttft: Annotated[
        str | float | None,
        Meta(description="time to the first token that each request is to have, such as `1s`; by default none"),
        length_of_time_s,
    ] = None
    tpot: Annotated[
        str | float | None,
        Meta(description="time between tokens that each request is to have, such as `150ms`; by default none"),
        length_of_time_s,
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmSettings:
    """How a language model generates; None leaves the choice to the model and the machine."""

    num_slots: int
    token_budget: int
    max_waiting: int
    max_length: int | None
    kv_memory_bytes: int | None
    block_size: int
    prefix_caching: bool
    chunked_prefill: bool
    deterministic: bool
    weights: Literal["as_is", "int8"]
    ttft_s: float | None
    tpot_s: float | None


_NAMES = {"kv_memory": "kv_memory_bytes", "ttft": "ttft_s", "tpot": "tpot_s"}


def llm_settings(table: Mapping[str, Any]) -> LlmSettings:
    """Return the settings of a table whose values have been read.

    Args:
        table: By key.
    """
    return LlmSettings(**{_NAMES.get(key, key): value for key, value in table.items()})
