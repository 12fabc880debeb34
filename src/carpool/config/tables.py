"""The keys of `carpool.toml`: for each its type, limits, default and meaning, as the reference page shows them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from msgspec import Meta

from carpool.config.cache_keys import CacheTable
from carpool.config.http_keys import HttpTable
from carpool.config.leaf import (
    BESIDE,
    Buckets,
    Count,
    Items,
    Leaf,
    Name,
    Sha256,
    Workers,
    leaves_of,
    length_of_time_s,
    some,
)
from carpool.config.llm_keys import LlmTable
from carpool.config.names import printable, tenant_shares
from carpool.config.ray_keys import RayTable
from carpool.config.telemetry_keys import TelemetryTable
from carpool.config.workload_keys import WorkloadTable
from carpool.core.policy import Policy
from carpool.units import parse_bytes, parse_duration_s

_DEFAULTS = Policy()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTable:
    """`[model]`: what runs, and where."""

    target: Annotated[
        str | None,
        Meta(
            description=(
                "what to run: `file.py:name`, `package.module:name`, a directory, an `.onnx` or `.gguf` file, "
                "`demo:minilm` and `demo:smollm2` (real weights) or `demo:null` (only waits)"
            )
        ),
    ] = None
    name: Annotated[
        Name | None, Meta(description="what clients call the model; by default the target's own name"), printable
    ] = None
    device: Annotated[str | None, Meta(description="where it runs, such as `cpu` or `cuda:0`; by default the best")] = (
        None
    )
    dtype: Annotated[str | None, Meta(description="`float32`, `bfloat16` or `float16`; by default what suits")] = None
    num_threads: Annotated[
        Count | None, Meta(description="threads of one operation on a CPU; by default one for each core")
    ] = None
    num_workers: Annotated[
        Workers | None,
        Meta(
            description="batches that run beside each other, each with a worker; by default as many as the model runs "
            "best with (an encoder on the CPU: one a core, of one thread each), and 1 with a profile, as was measured"
        ),
    ] = None
    worker: Annotated[
        Literal["thread", "process"],
        Meta(description="what a worker is: a `thread` of the server, or a `process` that may die without it"),
    ] = "thread"
    devices: Annotated[
        tuple[Name, ...],
        Meta(description="a worker and a copy of the model for each, such as `cuda:0`; empty: all use `device`"),
    ] = ()
    batch_timeout: Annotated[
        str | float | None,
        Meta(description="a batch that takes longer is taken to hang, and its worker is replaced; by default none is"),
        some(parse_duration_s),
    ] = None
    max_worker_memory: Annotated[
        str | int | None,
        Meta(description="a worker's process that holds more is replaced between two batches; by default no limit"),
        some(parse_bytes),
    ] = None
    warm_up: Annotated[
        str | float,
        Meta(description="longest that running every shape of batch once may take before it is ready; 0 runs none"),
        parse_duration_s,
    ] = "30s"
    versions: Annotated[
        Literal["all"] | Count | tuple[Count, ...],
        Meta(
            description="of a model repository: how many of the highest versions are served, `all`, or a list of those "
            "that are"
        ),
    ] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTable:
    """`[policy]`: how batches are formed."""

    max_batch_size: Annotated[Items, Meta(description="most items in a batch; 1 turns batching off")] = (
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
        Items, Meta(description="how many waiting items are looked through for ones of similar length")
    ] = _DEFAULTS.look_ahead
    max_queue: Annotated[Items, Meta(description="most items waiting; one more is refused")] = _DEFAULTS.max_queue
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
    grpc_port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="port for gRPC, on the same host; 0 takes a free one; by default gRPC is not spoken"),
    ] = None
    max_body: Annotated[str | int, Meta(description="largest body of a request that is read"), some(parse_bytes)] = (
        "16MiB"
    )
    request_timeout: Annotated[
        str | float,
        Meta(description="deadline of a request that brings none, from its arrival"),
        some(parse_duration_s),
    ] = "60s"
    drain_timeout: Annotated[
        str | float,
        Meta(description="how long accepted requests may take to finish once asked to stop"),
        parse_duration_s,
    ] = "30s"
    control: Annotated[
        bool,
        Meta(
            description=(
                "whether models may be loaded and unloaded, and policies changed, over the network; where there are "
                "API keys, by those marked `control`"
            )
        ),
    ] = False
    num_loading: Annotated[Count, Meta(description="models that load at a time; 1 where memory is short")] = 4
    strict: Annotated[bool, Meta(description="whether to end where one of several models can't be loaded")] = False
    watch: Annotated[
        str | float,
        Meta(description="how often to look for changed files, which are then loaded anew; 0 waits for SIGHUP"),
        parse_duration_s,
    ] = "0s"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveTable:
    """`[objective]`: the latencies that requests are promised; goodput counts those that keep to all of them."""

    p50: Annotated[
        str | float | None, Meta(description="median latency, such as `20ms`; by default none"), length_of_time_s
    ] = None
    p95: Annotated[
        str | float | None, Meta(description="95th percentile of latency; by default none"), length_of_time_s
    ] = None
    p99: Annotated[
        str | float | None, Meta(description="99th percentile of latency; by default none"), length_of_time_s
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineTable:
    """`[pipeline]`: models that run one after the other, each behind a batcher of its own."""

    steps: Annotated[
        tuple[Name, ...],
        Meta(description="names of the steps in order, each a table `[step.NAME]` or a model of the repository"),
    ] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTable:
    """`[step.NAME]`: one step of a pipeline."""

    target: Annotated[Name, Meta(description="what to run, as `model.target`")]
    device: Annotated[str | None, Meta(description="as `model.device`")] = None
    dtype: Annotated[str | None, Meta(description="as `model.dtype`")] = None
    num_threads: Annotated[Count | None, Meta(description="as `model.num_threads`")] = None
    num_workers: Annotated[Workers | None, Meta(description="as `model.num_workers`")] = None
    policy: PolicyTable = field(default_factory=PolicyTable)

    def model_keys(self) -> dict[str, Any]:
        """Return the keys that are also those of `[model]`."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "policy"}


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
    ray: RayTable = field(default_factory=RayTable)
    objective: ObjectiveTable = field(default_factory=ObjectiveTable)
    workload: WorkloadTable = field(default_factory=WorkloadTable)
    http: HttpTable = field(default_factory=HttpTable)
    cache: CacheTable = field(default_factory=CacheTable)
    llm: LlmTable = field(default_factory=LlmTable)
    telemetry: TelemetryTable = field(default_factory=TelemetryTable)
    pipeline: PipelineTable = field(default_factory=PipelineTable)
    step: Annotated[
        dict[str, StepTable], Meta(description="steps of a pipeline by name: a `target`, and a `policy` of its own")
    ] = field(default_factory=dict)
    tenants: Annotated[
        dict[str, float],
        Meta(description="shares of the tenants by name, such as `paid = 4.0`; 1 where not named"),
        tenant_shares,
    ] = field(default_factory=dict)


def leaves() -> tuple[Leaf, ...]:
    """Return every key of `carpool.toml` that takes a value, in the order of its tables."""
    return tuple(leaves_of(SettingsFile()))
