"""What a server is told: command line over environment over `carpool.toml` over defaults, and where each came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from carpool.config.document import VERSION_KEY, migrate, read_bytes
from carpool.config.environment import settings_in
from carpool.config.expected import in_words
from carpool.config.keys import check_keys, nearest
from carpool.config.syntax import parse_toml, shown
from carpool.config.tables import Leaf, SettingsFile, leaves
from carpool.core.policy import Policy
from carpool.errors import ConfigError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = "default"
COMMAND_LINE = "command line"
# The keys of [policy] that the core knows by a name with its unit.
_POLICY_NAMES = {
    "max_wait": "max_wait_s",
    "patience": "patience_s",
    "ageing": "ageing_s",
    "memory_limit": "memory_limit_bytes",
}
# What a key that is given leaves without meaning, and so displaces where a weaker layer gave it: other arrivals need no
# burstiness of the ones before.
_SHAPES = ("burstiness", "on", "off", "peak_to_mean", "period", "trace_start", "trace_duration", "speed")
_DISPLACED = {
    "workload.arrivals": tuple(f"workload.{key}" for key in ("trace", *_SHAPES)),
    "workload.trace": tuple(f"workload.{key}" for key in ("arrivals", *_SHAPES)),
    "workload.rate": ("workload.speed",),
    "workload.speed": ("workload.rate",),
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
    num_workers: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where the server listens, and for how long it waits."""

    host: str
    port: int
    max_body_bytes: int
    request_timeout_s: float
    drain_timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value in force, and where it came from.

    Args:
        key: Its dotted path, such as `policy.max_wait`.
        value: The value.
        origin: `default`, `command line`, `environment` and the variable, or the file.
        named: What to call it where it was given: `CARPOOL_POLICY_MAX_WAIT`, or `carpool.toml: policy.max_wait`.
    """

    key: str
    value: Any
    origin: str
    named: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Everything in force for a server.

    Args:
        model: What runs.
        policy: How batches are formed, tenants' shares included.
        server: Where it listens.
        objectives_s: Promised latency in seconds by percentile, such as `{"p99": 0.05}`.
        workload: What arrives, for a plan and for its verification.
        profile: The profile whose cost model is used.
        profile_sha256: Of the profile that the policy was planned from, in hexadecimal; None where it was not.
        values: Every key with its value and origin, in the order of the tables.
    """

    model: ModelSettings
    policy: Policy
    server: ServerSettings
    objectives_s: Mapping[str, float]
    workload: WorkloadSettings
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
    path: Path | str | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ServeSettings:
    """Bring the layers together, the first that gives a value winning: flags, environment, file, default.

    Args:
        path: A `carpool.toml`, or None for none.
        flags: Values by dotted key, such as `{"policy.max_batch_size": 64}`; None stands for not given.
        environ: Environment variables; `CARPOOL_POLICY_MAX_BATCH_SIZE` sets `policy.max_batch_size`, lists are `16,32`.

    Raises:
        ConfigError: A value is wrong (the message has value, limit and origin), or the file cannot be read.
        SchemaError: The file's syntax, version or keys are wrong.

    >>> settings = load_settings(flags={"policy.max_batch_size": 64}, environ={"CARPOOL_POLICY_MAX_WAIT": "2ms"})
    >>> settings.policy.max_batch_size, settings.policy.max_wait_s, settings.server.port
    (64, 0.002, 8000)
    """
    known = {leaf.key: leaf for leaf in leaves()}
    given = [_from_flags(flags or {}, known), _from_environment(environ or {}, known), _from_file(path, known)]
    left = _displaced(given)
    values = tuple(_setting(leaf, left) for leaf in known.values())
    return _assemble(values)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """A value as one layer gave it; text from the environment may stand for a number.

    Args:
        value: To be converted to the key's type.
        origin: Where it came from.
        named: What to call it there.
        written: As it was written, for messages.
        strict: Whether text stands for nothing but text.
    """

    value: Any
    origin: str
    named: str
    written: Any
    strict: bool = True


def _given(key: str, value: Any, origin: str) -> _Given:
    return _Given(value=value, origin=origin, named=f"{origin}: {key}", written=value)


def _from_flags(flags: Mapping[str, Any], known: Mapping[str, Leaf]) -> dict[str, _Given]:
    for key in flags:
        assert key in known, f"no setting is called {key}: {nearest(key, known)}"
    return {key: _given(key, value, COMMAND_LINE) for key, value in flags.items() if value is not None}


def _from_environment(environ: Mapping[str, str], known: Mapping[str, Leaf]) -> dict[str, _Given]:
    found = {}
    for key, text in settings_in(environ, known.values()).items():
        listed = isinstance(known[key].default, tuple)
        value = [part for part in text.split(",") if part.strip()] if listed else text
        name = known[key].variable
        found[key] = _Given(value=value, origin=f"environment {name}", named=name, written=text, strict=False)
    return found


def _from_file(path: Path | str | None, known: Mapping[str, Leaf]) -> dict[str, _Given]:
    if path is None:
        return {}
    source = str(path)
    raw = parse_toml(read_bytes(Path(path)), source)
    # A file written by hand may leave the version out: it then means the first.
    raw = migrate({VERSION_KEY: 1, **raw}, SettingsFile, source)
    for table in ("model", "policy", "server", "objective", "workload", "tenants"):
        if not isinstance(raw.get(table, {}), dict):
            raise SchemaError(f"{source}: {table} is {shown(raw[table])}: it must be a table, [{table}]")
    check_keys(raw, SettingsFile, source)
    directory = Path(path).parent
    return {
        key: _given(key, _beside(directory, value) if known[key].beside else value, source)
        for key, value in _flatten(raw)
        if key in known
    }


def _beside(directory: Path, name: Any) -> Any:
    """Seek a file where the file that names it is, so that both can be moved and used from anywhere."""
    return str(directory / name) if isinstance(name, str) else name


def _displaced(layers: list[dict[str, _Given]]) -> list[dict[str, _Given]]:
    """Take out of each layer what a stronger one displaces."""
    gone: set[str] = set()
    left = []
    for layer in layers:
        left.append({key: given for key, given in layer.items() if key not in gone})
        gone |= {key for given in layer for key in _DISPLACED.get(given, ())}
    return left


def _flatten(raw: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in raw.items():
        if isinstance(value, dict) and name != "tenants":
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _setting(leaf: Leaf, layers: list[dict[str, _Given]]) -> Setting:
    default = _given(leaf.key, leaf.default, DEFAULT)
    given = next((layer[leaf.key] for layer in layers if leaf.key in layer), default)
    return Setting(key=leaf.key, value=_checked(leaf, given), origin=given.origin, named=given.named)


def _checked(leaf: Leaf, given: _Given) -> Any:
    """Convert a value to its key's type, and a duration or size to its number."""
    try:
        converted = msgspec.convert(given.value, leaf.annotation, strict=given.strict)
        return leaf.parse(converted) if leaf.parse and converted is not None else converted
    except msgspec.ValidationError:
        problem = f"{given.named} is {shown(given.written)}; it must be {in_words(leaf.annotation)}"
    except ConfigError as error:  # which begins with the value
        problem = f"{given.named}: {error}"
    default = "" if leaf.default in (None, (), {}) else f", {leaf.default}"
    raise ConfigError(f"{problem} ({leaf.description}). Correct it, or leave it out for the default{default}")


def _assemble(values: tuple[Setting, ...]) -> ServeSettings:
    by_key = {setting.key: setting.value for setting in values}
    server = _table(by_key, "server")
    return ServeSettings(
        model=ModelSettings(**_table(by_key, "model")),
        policy=_policy(values, by_key),
        server=ServerSettings(
            host=server["host"],
            port=server["port"],
            max_body_bytes=server["max_body"],
            request_timeout_s=server["request_timeout"],
            drain_timeout_s=server["drain_timeout"],
        ),
        objectives_s={key: value for key, value in _table(by_key, "objective").items() if value is not None},
        workload=_workload(_table(by_key, "workload")),
        profile=None if by_key["profile"] is None else Path(by_key["profile"]),
        profile_sha256=by_key["profile_sha256"],
        values=values,
    )


def _workload(table: dict[str, Any]) -> WorkloadSettings:
    trace = table.pop("trace")
    named = {f"{key}_s" if key in _WORKLOAD_SECONDS else key: value for key, value in table.items()}
    return WorkloadSettings(**named, trace=None if trace is None else Path(trace))


def _table(by_key: Mapping[str, Any], table: str) -> dict[str, Any]:
    prefix = f"{table}."
    return {key.removeprefix(prefix): value for key, value in by_key.items() if key.startswith(prefix)}


def _policy(values: tuple[Setting, ...], by_key: Mapping[str, Any]) -> Policy:
    """Build the core's policy; what only it can refuse (two keys that do not agree) is told with the origins."""
    knobs = {_POLICY_NAMES.get(name, name): value for name, value in _table(by_key, "policy").items()}
    try:
        return Policy(**knobs, tenant_weights=by_key["tenants"])
    except ConfigError as error:
        keys = [setting for setting in values if setting.key.startswith(("policy.", "tenants"))]
        origins = sorted({setting.origin for setting in keys if setting.origin != DEFAULT})
        raise ConfigError(f"[policy] from {', '.join(origins)}: {error}") from None
