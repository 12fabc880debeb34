"""What a server is told: command line over environment over `carpool.toml` over defaults, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from carpool.config.cache_keys import CacheSettings, cache_settings
from carpool.config.http_keys import HttpSettings, http_settings
from carpool.config.layers import COMMAND_LINE, DEFAULT, Setting, gather
from carpool.config.llm_keys import LlmSettings, llm_settings
from carpool.config.policy_keys import build_policy, policy_of_table
from carpool.config.ray_keys import RaySettings, ray_settings
from carpool.core.policy import Policy
from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carpool.config.tables import StepTable

__all__ = [
    "COMMAND_LINE",
    "DEFAULT",
    "LlmSettings",
    "ModelSettings",
    "RaySettings",
    "ServeSettings",
    "ServerSettings",
    "Setting",
    "StepSettings",
    "WorkloadSettings",
    "load_settings",
]

# The keys of [model] whose values have a unit.
_MODEL_NAMES = {
    "batch_timeout": "batch_timeout_s",
    "max_worker_memory": "max_worker_memory_bytes",
    "warm_up": "warm_up_s",
}
# The keys of [workload] whose values are seconds.
_WORKLOAD_SECONDS = ("on", "off", "period", "trace_start", "trace_duration", "deadline", "patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What runs, and where; None leaves the choice to the model."""

    target: str | None
    name: str | None
    device: str | None
    dtype: str | None
    num_threads: int | None
    num_workers: int | None
    worker: Literal["thread", "process"]
    devices: tuple[str, ...]
    batch_timeout_s: float | None
    max_worker_memory_bytes: int | None
    warm_up_s: float
    versions: int | Literal["all"] | tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """One step of a pipeline that is declared with it: what runs, and how its batches are formed."""

    model: ModelSettings
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """What arrives, as it was told; None where it was not. `carpool.plan.workload_table` makes a workload of it."""

    rate: float | None
    arrivals: str | None
    burstiness: float | None
    on_s: float | None
    off_s: float | None
    peak_to_mean: float | None
    period_s: float | None
    trace: Path | None
    trace_start_s: float | None
    trace_duration_s: float | None
    speed: float | None
    lengths: tuple[int, ...]
    deadline_s: float | None
    patience_s: float | None
    priorities: Mapping[int, float]
    output_lengths: tuple[int, ...]
    length_spread: float
    shared_prefix: int
    num_prefixes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server listens, and for how long it waits."""

    host: str
    port: int
    grpc_port: int | None
    max_body_bytes: int
    request_timeout_s: float
    drain_timeout_s: float
    control: bool
    num_loading: int
    strict: bool
    watch_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """What a server says of itself, and where; None says it nowhere, but the log, which goes to standard error."""

    log_format: Literal["text", "json"]
    log_file: Path | None
    access_log: bool
    traces: str | None
    trace_share: float
    events: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything in force for a server.

    Args:
        model: What runs.
        policy: How batches are formed, tenants' shares included.
        server: Where it listens.
        ray: How many replicas there are, where it runs on Ray Serve.
        http: What clients may do, who they must be, and encryption.
        objectives_s: Promised latency in seconds by percentile, such as `{"p99": 0.05}`.
        workload: What arrives, for a plan and for its verification.
        cache: What equal items share.
        llm: How a language model generates.
        telemetry: Logs, traces and events.
        steps: Of a pipeline, the names of its steps in order; empty where the model is none.
        own_steps: Those of them that are declared with it, by name.
        profile: The profile whose cost model is used.
        profile_sha256: Of the profile that the policy was planned from, in hexadecimal; None where it was not.
        values: Every key with its value and origin, in the order of the tables.
    """

    model: ModelSettings
    policy: Policy
    server: ServerSettings
    ray: RaySettings
    http: HttpSettings
    objectives_s: Mapping[str, float]
    workload: WorkloadSettings
    cache: CacheSettings
    llm: LlmSettings
    telemetry: TelemetrySettings
    steps: tuple[str, ...]
    own_steps: Mapping[str, StepSettings]
    profile: Path | None
    profile_sha256: str | None
    values: tuple[Setting, ...] = field(repr=False)

    def explain(self) -> tuple[Setting, ...]:
        """Return every key with its value and where it came from."""
        return self.values

    def setting(self, key: str) -> Setting:
        """Return one key, such as `profile`, with its value and where it came from."""
        return next(one for one in self.values if one.key == key)


def load_settings(
    path: Path | str | Sequence[Path] | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    tables: Mapping[str, Any] | None = None,
    tables_from: str = "tables",
) -> ServeSettings:
    """Bring the layers together, the first that gives a value winning: flags, environment, file, default.

    Args:
        path: A `carpool.toml`, several with the strongest first, or None for none.
        flags: Values by dotted key, such as `{"policy.max_batch_size": 64}`; None stands for not given.
        environ: Environment variables; `CARPOOL_POLICY_MAX_BATCH_SIZE` sets `policy.max_batch_size`, lists are `16,32`.
        tables: What wins over all of these, in the form of a parsed `carpool.toml`.
        tables_from: What errors call the tables.

    Raises:
        ConfigError: A value is wrong (the message has value, limit and origin), or the file cannot be read.
        SchemaError: The file's syntax, version or keys are wrong.

    >>> settings = load_settings(flags={"policy.max_batch_size": 64}, environ={"CARPOOL_POLICY_MAX_WAIT": "2ms"})
    >>> settings.policy.max_batch_size, settings.policy.max_wait_s, settings.server.port
    (64, 0.002, 8000)
    """
    files = () if path is None else (path,) if isinstance(path, Path | str) else path
    values = gather(files, flags=flags or {}, environ=environ or {}, tables=tables or {}, tables_from=tables_from)
    return _assemble(values)


def _assemble(values: tuple[Setting, ...]) -> ServeSettings:
    by_key = {setting.key: setting.value for setting in values}
    server = _table(by_key, "server")
    return ServeSettings(
        model=_model(_table(by_key, "model")),
        policy=_policy(values, by_key),
        server=ServerSettings(
            host=server["host"],
            port=server["port"],
            grpc_port=server["grpc_port"],
            max_body_bytes=server["max_body"],
            request_timeout_s=server["request_timeout"],
            drain_timeout_s=server["drain_timeout"],
            control=server["control"],
            num_loading=server["num_loading"],
            strict=server["strict"],
            watch_s=server["watch"],
        ),
        ray=ray_settings(_table(by_key, "ray")),
        http=http_settings(_table(by_key, "http")),
        objectives_s=_objectives(by_key),
        workload=_workload(_table(by_key, "workload")),
        cache=cache_settings(_table(by_key, "cache")),
        llm=llm_settings(_table(by_key, "llm")),
        telemetry=_telemetry(_table(by_key, "telemetry")),
        steps=by_key["pipeline.steps"],
        own_steps=_own_steps(values, by_key),
        profile=None if by_key["profile"] is None else Path(by_key["profile"]),
        profile_sha256=by_key["profile_sha256"],
        values=values,
    )


def _objectives(by_key: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in _table(by_key, "objective").items() if value is not None}


def _telemetry(table: dict[str, Any]) -> TelemetrySettings:
    paths = {key: None if table[key] is None else Path(table[key]) for key in ("log_file", "events")}
    return TelemetrySettings(**(table | paths))


def _model(table: dict[str, Any]) -> ModelSettings:
    return ModelSettings(**{_MODEL_NAMES.get(key, key): value for key, value in table.items()})


def _own_steps(values: tuple[Setting, ...], by_key: Mapping[str, Any]) -> dict[str, StepSettings]:
    """Check that the steps that are declared are those that are named, and read their policies."""
    declared: Mapping[str, StepTable] = by_key["step"]
    named = next(setting.named for setting in values if setting.key == "step")
    for name in declared:
        if name not in by_key["pipeline.steps"]:
            steps = ", ".join(by_key["pipeline.steps"]) or "none"
            raise ConfigError(
                f"{named}.{name} is no step of the pipeline: name it in [pipeline] steps, which has {steps}"
            )
    found = {}
    for name, step in declared.items():
        own = {key: value for key, value in step.model_keys().items() if value is not None}
        model = {**_table(by_key, "model"), **own, "name": None}
        policy = policy_of_table(step.policy, f"{named}.{name}.policy", by_key["tenants"])
        found[name] = StepSettings(model=_model(model), policy=policy)
    return found


def _workload(table: dict[str, Any]) -> WorkloadSettings:
    trace = table.pop("trace")
    named = {f"{key}_s" if key in _WORKLOAD_SECONDS else key: value for key, value in table.items()}
    return WorkloadSettings(**named, trace=None if trace is None else Path(trace))


def _table(by_key: Mapping[str, Any], table: str) -> dict[str, Any]:
    prefix = f"{table}."
    return {key.removeprefix(prefix): value for key, value in by_key.items() if key.startswith(prefix)}


def _policy(values: tuple[Setting, ...], by_key: Mapping[str, Any]) -> Policy:
    """Build the core's policy; what only it can refuse (two keys that do not agree) is told with the origins."""
    try:
        policy = build_policy(_table(by_key, "policy"), by_key["tenants"])
        return replace(policy, objectives_s=_objectives(by_key))
    except ConfigError as error:
        keys = [setting for setting in values if setting.key.startswith(("policy.", "tenants"))]
        origins = sorted({setting.origin for setting in keys if setting.origin != DEFAULT})
        raise ConfigError(f"[policy] from {', '.join(origins)}: {error}") from None
