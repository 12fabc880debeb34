"""The keys of `carpool.toml`: for each its type, limits, default and meaning, as the reference page shows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args, get_origin, get_type_hints

from msgspec import Meta

from carpool.core.policy import Policy
from carpool.errors import ConfigError
from carpool.units import parse_bytes, parse_duration_s

_DEFAULTS = Policy()

Parse: TypeAlias = Callable[[Any], Any]
"""What turns the text of a duration or a size into a number; it stands in a key's annotation."""

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Buckets: TypeAlias = tuple[Count, ...]
Name: TypeAlias = Annotated[str, Meta(min_length=1)]
Positive: TypeAlias = Annotated[float, Meta(gt=0)]
Sha256: TypeAlias = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Process: TypeAlias = Literal["poisson", "gamma", "constant", "on-off", "daily"]

BESIDE: Final = "beside"
"""Stands in the annotation of a key that names a file, which is sought beside the `carpool.toml` that names it."""


def _some(parse: Parse, problem: str = "would refuse every request") -> Parse:
    """Return a reader that refuses nothing at all, and says what the problem with it is."""

    def read(value: Any) -> Any:
        found = parse(value)
        if not found:
            raise ConfigError(f"{value!r} {problem}; it must be above 0")
        return found

    return read


_length_of_time_s = _some(parse_duration_s, "is no time at all")


def _shares(value: Mapping[str, float]) -> dict[int, float]:
    """Read shares by priority, which stands as text in a file: TOML has no other keys."""
    other = [priority for priority in value if not re.fullmatch(r"-?\d{1,9}", priority)]
    if other:
        raise ConfigError(f"{other[0]!r} is no priority; it must be a whole number such as 0 or 5")
    return {int(priority): share for priority, share in value.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """`[model]`: what runs, and where."""

    target: Annotated[
        str | None,
        Meta(
            description=(
                "what to run: `file.py:name`, `package.module:name`, a directory, an `.onnx` file, `demo:minilm` "
                "(real weights) or `demo:null` (only waits)"
            )
        ),
    ] = None
    name: Annotated[Name | None, Meta(description="what clients call the model; by default the target's own name")] = (
        None
    )
    device: Annotated[str | None, Meta(description="where it runs, such as `cpu` or `cuda:0`; by default the best")] = (
        None
    )
    dtype: Annotated[str | None, Meta(description="`float32`, `bfloat16` or `float16`; by default what suits")] = None
    num_threads: Annotated[
        Count | None, Meta(description="threads of one operation on a CPU; by default one for each core")
    ] = None
    num_workers: Annotated[Count, Meta(description="copies of the model that run batches beside each other")] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTable:
    """`[policy]`: how batches are formed."""

    max_batch_size: Annotated[Count, Meta(description="most items in a batch; 1 turns batching off")] = (
        _DEFAULTS.max_batch_size
    )
    max_wait: Annotated[
        str | float,
        Meta(description="longest that an item may wait for company while a worker is free; 0 never waits"),
        parse_duration_s,
    ] = f"{_DEFAULTS.max_wait_s:g}s"
    token_budget: Annotated[
        Count | None, Meta(description="most padded tokens in a batch (items times longest); by default no limit")
    ] = _DEFAULTS.token_budget
    length_buckets: Annotated[
        Buckets, Meta(description="lengths that items are padded to, rising; empty: the longest member's own")
    ] = _DEFAULTS.length_buckets
    batch_size_buckets: Annotated[
        Buckets, Meta(description="batch sizes that smaller batches are padded up to, rising; empty: every size is run")
    ] = _DEFAULTS.batch_size_buckets
    look_ahead: Annotated[
        Count, Meta(description="how many waiting items are looked through for ones of similar length")
    ] = _DEFAULTS.look_ahead
    max_queue: Annotated[Count, Meta(description="most items waiting; one more is refused")] = _DEFAULTS.max_queue
    patience: Annotated[
        str | float,
        Meta(description="deadline that an item without one is ordered by"),
        parse_duration_s,
    ] = f"{_DEFAULTS.patience_s:g}s"
    ageing: Annotated[
        str | float,
        Meta(description="how much waiting one level of priority is worth"),
        parse_duration_s,
    ] = f"{_DEFAULTS.ageing_s:g}s"
    memory_limit: Annotated[
        str | int | None,
        Meta(description="most predicted memory of a batch, such as `2GiB`; by default no limit"),
        parse_bytes,
    ] = _DEFAULTS.memory_limit_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTable:
    """`[server]`: where it listens, and for how long it waits."""

    host: Annotated[str, Meta(min_length=1, description="address to listen on; `0.0.0.0` for every network")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="port to listen on; 0 takes a free one")] = 8000
    max_body: Annotated[str | int, Meta(description="largest body of a request that is read"), _some(parse_bytes)] = (
        "16MiB"
    )
    request_timeout: Annotated[
        str | float,
        Meta(description="deadline of a request that brings none, from its arrival"),
        _some(parse_duration_s),
    ] = "60s"
    drain_timeout: Annotated[
        str | float,
        Meta(description="how long accepted requests may take to finish once asked to stop"),
        parse_duration_s,
    ] = "30s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTable:
    """`[objective]`: the latencies that requests are promised; goodput counts those that keep to all of them."""

    p50: Annotated[
        str | float | None, Meta(description="median latency, such as `20ms`; by default none"), parse_duration_s
    ] = None
    p95: Annotated[
        str | float | None, Meta(description="95th percentile of latency; by default none"), parse_duration_s
    ] = None
    p99: Annotated[
        str | float | None, Meta(description="99th percentile of latency; by default none"), parse_duration_s
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTable:
    """`[workload]`: what arrives. Plans are made for it and verified with it; a server takes what comes."""

    rate: Annotated[
        Positive | None, Meta(description="mean items a second; a trace is played as fast as gives this rate")
    ] = None
    arrivals: Annotated[
        Process | None,
        Meta(description="`poisson`, `gamma`, `constant`, `on-off` or `daily`; by default `poisson`, or a trace's own"),
    ] = None
    burstiness: Annotated[
        Positive | None,
        Meta(
            description="of `gamma`: squared coefficient of variation of the gaps; 1 is Poisson, above is burstier; "
            "by default 4"
        ),
    ] = None
    on: Annotated[
        str | float | None,
        Meta(description="of `on-off`: length of a burst; one begins every `on` and `off` together; by default 1s"),
        _length_of_time_s,
    ] = None
    off: Annotated[
        str | float | None,
        Meta(description="of `on-off`: silence after a burst; by default 1s"),
        parse_duration_s,
    ] = None
    peak_to_mean: Annotated[
        Annotated[float, Meta(ge=1, le=2)] | None,
        Meta(description="of `daily`: highest rate over the mean, 1 to 2; by default 1.5"),
    ] = None
    period: Annotated[
        str | float | None,
        Meta(description="of `daily`: length of a day; by default 24h"),
        _length_of_time_s,
    ] = None
    trace: Annotated[
        str | None,
        Meta(description="recorded arrivals to replay: CSV, JSONL or Carpool's own events; by default none"),
        BESIDE,
    ] = None
    trace_start: Annotated[
        str | float | None,
        Meta(description="where in the trace to begin, as recorded; by default at its first arrival"),
        parse_duration_s,
    ] = None
    trace_duration: Annotated[
        str | float | None,
        Meta(description="how much of the trace to use, as recorded; by default to its end"),
        _length_of_time_s,
    ] = None
    speed: Annotated[
        Positive | None, Meta(description="how many times as fast as recorded to play the trace; by default 1")
    ] = None
    lengths: Annotated[
        Buckets,
        Meta(description="tokens of typical items, each as likely; empty: the trace's own, or the profile's examples"),
    ] = ()
    deadline: Annotated[
        str | float | None,
        Meta(description="time after which an answer is worth nothing; by default none"),
        _length_of_time_s,
    ] = None
    patience: Annotated[
        str | float | None,
        Meta(description="time after which a client that still waits goes away; by default none"),
        _length_of_time_s,
    ] = None
    priorities: Annotated[
        dict[str, Positive],
        Meta(description='shares of the items by priority, such as `"5" = 0.1`; empty: all of priority 0'),
        _shares,
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """A whole `carpool.toml`."""

    schema_version: int = 1
    profile: Annotated[
        str | None,
        Meta(description="profile of this model on this machine (`profile.json`) whose cost model is used"),
        BESIDE,
    ] = None
    profile_sha256: Annotated[
        Sha256 | None, Meta(description="SHA-256 of the profile that this file was planned from; by default not known")
    ] = None
    model: ModelTable = field(default_factory=ModelTable)
    policy: PolicyTable = field(default_factory=PolicyTable)
    server: ServerTable = field(default_factory=ServerTable)
    objective: ObjectiveTable = field(default_factory=ObjectiveTable)
    workload: WorkloadTable = field(default_factory=WorkloadTable)
    tenants: Annotated[
        dict[str, float], Meta(description="shares of the tenants by name, such as `paid = 4.0`; 1 where not named")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One key that takes a value.

    Args:
        key: Its dotted path, such as `policy.max_wait`.
        annotation: The type it is converted to, limits included.
        default: Its value where none is given, as it would be written.
        description: What it means.
        parse: Turns a duration or a size into a number; None where the value is meant as it is.
        beside: Whether it names a file, sought beside the `carpool.toml` that names it.
    """

    key: str
    annotation: Any
    default: Any
    description: str
    parse: Parse | None
    beside: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"CARPOOL_{self.key.replace('.', '_').upper()}"


def leaves() -> tuple[Leaf, ...]:
    """Return every key of `carpool.toml` that takes a value, in the order of its tables."""
    return tuple(_leaves_of(SettingsFile(), ""))


def _leaves_of(table: Any, prefix: str) -> list[Leaf]:
    hints: Mapping[str, Any] = get_type_hints(type(table), include_extras=True)
    found: list[Leaf] = []
    for one in fields(table):
        value, annotation = getattr(table, one.name), hints[one.name]
        if is_dataclass(value):
            found += _leaves_of(value, f"{prefix}{one.name}.")
        elif get_origin(annotation) is Annotated:
            found.append(_leaf(f"{prefix}{one.name}", annotation, value))
    return found


def _leaf(key: str, annotation: Any, default: Any) -> Leaf:
    extras = get_args(annotation)[1:]
    return Leaf(
        key=key,
        annotation=annotation,
        default=default,
        description="; ".join(extra.description for extra in extras if isinstance(extra, Meta) and extra.description),
        parse=next((extra for extra in extras if callable(extra)), None),
        beside=BESIDE in extras,
    )
