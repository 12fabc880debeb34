"""A workload as settings and as the `[workload]` table of a `carpool.toml`, and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.errors import ConfigError
from carpool.plan.process import Arrivals, Constant, Daily, Gamma, OnOff, Poisson, Replay
from carpool.plan.trace import read_trace
from carpool.plan.workload import Workload

if TYPE_CHECKING:
    from carpool.config.settings import WorkloadSettings
    from carpool.plan.trace import Trace

# Which keys shape which arrivals, by their names in the table.
_SHAPES = {
    "gamma": ("burstiness",),
    "on-off": ("on", "off"),
    "daily": ("peak_to_mean", "period"),
    "trace": ("trace_start", "trace_duration", "speed"),
}
_SECONDS = frozenset({"on", "off", "period", "trace_start", "trace_duration"})


def from_settings(settings: WorkloadSettings, *, lengths: tuple[int, ...] = ()) -> Workload:
    """Make the workload that was described.

    Args:
        settings: `load_settings(...).workload`.
        lengths: Lengths to draw from where none were told: a profile's examples.

    Raises:
        ConfigError: Neither a rate nor a trace was given, two keys contradict each other, a value is out of its range,
            or the trace can't be read.

    Example:
        >>> from carpool.config.settings import load_settings
        >>> settings = load_settings(flags={"workload.rate": 400, "workload.arrivals": "gamma"})
        >>> from_settings(settings.workload, lengths=(64,)).describe()
        'gamma arrivals of burstiness 4 at 400/s; lengths of 64 tokens.'
    """
    return Workload(
        arrivals=arrivals_of(settings),
        lengths=settings.lengths or lengths or (1,),
        deadline_s=settings.deadline_s,
        patience_s=settings.patience_s,
        priorities=settings.priorities,
    )


def arrivals_of(settings: WorkloadSettings) -> Arrivals:
    """Make the arrivals that were described.

    Raises:
        ConfigError: As for `from_settings`.
    """
    kind = _kind_of(settings)
    shape = _given(settings, *_SHAPES.get(kind, ()))
    if settings.trace is not None:
        return Replay(trace=_window(settings, settings.trace))
    if settings.rate is None:
        raise ConfigError("nothing says how many items arrive: give a rate, such as 200 a second, or a trace")
    match kind:
        case "gamma":
            return Gamma(rate=settings.rate, **shape)
        case "constant":
            return Constant(rate=settings.rate)
        case "on-off":
            return OnOff(rate=settings.rate, **shape)
        case "daily":
            return Daily(rate=settings.rate, **shape)
    return Poisson(rate=settings.rate)


def _kind_of(settings: WorkloadSettings) -> str:
    """Return what arrives, once it is certain that no key shapes something else."""
    if settings.trace is not None and settings.arrivals is not None:
        raise ConfigError(f"arrivals can't be {settings.arrivals} and those of a trace: leave out one of the two")
    kind = "trace" if settings.trace is not None else settings.arrivals or "poisson"
    for other, keys in _SHAPES.items():
        stray = _given(settings, *keys) if other != kind else {}
        if stray:
            key = next(key for key in keys if _name(key) in stray)
            remedy = "name a trace" if other == "trace" else f"set arrivals to {other}"
            raise ConfigError(f"{key} shapes {other} arrivals, and these are {kind}: leave it out, or {remedy}")
    return kind


def _name(key: str) -> str:
    """Return what settings call a key of the table."""
    return f"{key}_s" if key in _SECONDS else key


def _given(settings: WorkloadSettings, *keys: str) -> dict[str, float]:
    """Return those of some numbers that were given, by their names in settings."""
    found = {_name(key): getattr(settings, _name(key)) for key in keys}
    return {name: value for name, value in found.items() if value is not None}


def _window(settings: WorkloadSettings, path: Path) -> Trace:
    """Cut the window of a trace that was described, and play it as fast as was."""
    if settings.rate is not None and settings.speed is not None:
        raise ConfigError(
            f"a rate of {settings.rate:g} a second and a speed of {settings.speed:g} both say how fast the trace is "
            "played: leave out one of the two"
        )
    trace = read_trace(path)
    start_s, duration_s = settings.trace_start_s or 0.0, settings.trace_duration_s
    if duration_s is not None and start_s + duration_s > trace.duration_s:
        raise ConfigError(
            f"{duration_s:g} s from {start_s:g} s on go beyond the end of the trace {path}, which lasts "
            f"{trace.duration_s:g} s: use less of it, or leave out how much"
        )
    window = trace.window(start_s=start_s, duration_s=duration_s)
    speed = settings.rate / window.rate if settings.rate is not None else settings.speed
    return window if speed is None else window.window(speed=speed)


def to_table(workload: Workload, *, beside: Path | None = None) -> dict[str, Any]:
    """Write a workload as a `[workload]` table; what is as by default is left out.

    Args:
        workload: What arrives.
        beside: The directory of the file that the table is written to: a trace is named from there.

    Example:
        >>> to_table(Workload(arrivals=OnOff(rate=50, on_s=2), lengths=(16, 64)))
        {'rate': 50, 'arrivals': 'on-off', 'on': 2, 'off': 1.0, 'lengths': [16, 64]}
    """
    table = arrivals_table(workload.arrivals, beside)
    if workload.replayed is None:
        table["lengths"] = list(workload.lengths)
    if workload.deadline_s is not None:
        table["deadline"] = workload.deadline_s
    if workload.patience_s is not None:
        table["patience"] = workload.patience_s
    if workload.priorities:
        table["priorities"] = {str(priority): share for priority, share in workload.priorities.items()}
    return table


def arrivals_table(arrivals: Arrivals, beside: Path | None) -> dict[str, Any]:
    """Write arrivals as keys of a `[workload]` table.

    Args:
        arrivals: When items come.
        beside: The directory of the file that the table is written to: a trace is named from there.
    """
    match arrivals:
        case Poisson():
            return {"rate": arrivals.rate, "arrivals": "poisson"}
        case Gamma():
            return {"rate": arrivals.rate, "arrivals": "gamma", "burstiness": arrivals.burstiness}
        case Constant():
            return {"rate": arrivals.rate, "arrivals": "constant"}
        case OnOff():
            return {"rate": arrivals.rate, "arrivals": "on-off", "on": arrivals.on_s, "off": arrivals.off_s}
        case Daily():
            shape = {"peak_to_mean": arrivals.peak_to_mean, "period": arrivals.period_s}
            return {"rate": arrivals.rate, "arrivals": "daily", **shape}
        case Replay():
            return _trace_table(arrivals, beside)


def _trace_table(arrivals: Replay, beside: Path | None) -> dict[str, Any]:
    """Name the file with the window of it that is played, as recorded."""
    trace = arrivals.trace
    table: dict[str, Any] = {"trace": trace.source}
    if beside is not None:
        table["trace"] = Path(os.path.relpath(trace.source, beside)).as_posix()
    if trace.start_s:
        table["trace_start"] = trace.start_s
    if trace.cut:
        table["trace_duration"] = trace.duration_s * trace.speed
    if trace.speed != 1:
        table["speed"] = trace.speed
    return table
