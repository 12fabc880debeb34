"""Where models come from: one that the command line names, or a repository, a directory with one for each model.

A repository is laid out as clients of Triton know it::

    models/
        carpool.toml            # optional: what all models share, and [server]
        sentiment/
            carpool.toml        # [model], [policy], [objective], [tenants] or [pipeline]
            1/model.onnx        # optional: versions, whole numbers
            2/model.onnx
            2/carpool.toml      # optional: what is other in this version
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carpool.config.settings import load_settings
from carpool.errors import CarpoolError, ConfigError, TargetError
from carpool.serve.blueprints import Told, blueprint_of, steps_of
from carpool.serve.build_any import build_any
from carpool.serve.source import Blueprint, Sheet
from carpool.serve.unused import kind_of, require_used

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from carpool.config.settings import ServeSettings
    from carpool.serve.on_offer import OnOffer
    from carpool.serve.source import Named, Source

FILE = "carpool.toml"
_OF_A_MODEL = ("config.json", "modules.json")
_OF_THE_SERVER = ("server.", "http.", "telemetry.", "ray.")
_OWN_SERVER_KEYS = frozenset({"server.request_timeout"})


def open_source(
    target: str | None, *, flags: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[ServeSettings, Source]:
    """Find out what is to be served, and bring together what is told of the server.

    Args:
        target: a model, a carpool.toml or a model repository; None where the environment names a model.
        flags: settings of the command line.
        environ: environment variables.

    Raises:
        ConfigError: something of what is told is wrong.
        TargetError: the target names nothing that can be served.
    """
    if target is not None and Path(target).is_dir() and is_repository(Path(target)):
        if flags.get("model.name") is not None:
            raise ConfigError(f"--name is {flags['model.name']!r}, and {target} has many models: leave it out")
        repository = Repository(Path(target), flags=flags, environ=environ)
        return repository.settings(), repository
    file = Path(target) if target is not None and target.endswith(".toml") else None
    told = {**flags, "model.target": target if file is None else None}

    def read(tables: Mapping[str, Any] | None) -> ServeSettings:
        settings = load_settings(file, flags=told, environ=environ, tables=tables, tables_from="the load")
        if settings.model.target is None and not settings.steps:
            where = f"{file} has no [model] target" if file else "no TARGET was given"
            raise ConfigError(f"{where}: name what to serve, as in carpool serve demo:minilm")
        require_used(settings, kind_of(settings), lambda _origin: True)
        return settings

    return read(None), Single(read, file)


def is_repository(directory: Path) -> bool:
    """Tell a model repository from a model's own directory.

    Raises:
        TargetError: it is neither; the message says what was found.
    """
    if any((directory / name).is_file() for name in _OF_A_MODEL):
        return False
    if _model_directories(directory):
        return True
    found = ", ".join(sorted(entry.name + "/" * entry.is_dir() for entry in directory.iterdir())) or "nothing"
    raise TargetError(
        f"{directory} is neither a model (a directory with config.json or modules.json) nor a model repository "
        f"(whose directories have a {FILE} each): it holds {found}"
    )


def _model_directories(directory: Path) -> dict[str, Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise ConfigError(f"the model repository {directory} can't be read: {error.strerror or error}") from None
    return {entry.name: entry for entry in entries if not entry.name.startswith(".") and (entry / FILE).is_file()}


class Single:
    """The one model, or pipeline, that a target or a carpool.toml names.

    It is made at once, so that what is wrong with it is told before anything listens.

    Args:
        read: reads the settings, given tables that win over all others.
        file: the carpool.toml; None where there is none.

    Raises:
        ConfigError: the settings can't be kept.
        TargetError: the target names no model.
    """

    def __init__(self, read: Callable[[Mapping[str, Any] | None], ServeSettings], file: Path | None = None) -> None:
        self._read = read
        self._file = file
        settings = read(None)
        self._first = None if settings.steps else build_any(settings)
        self._name = self._first.name if self._first is not None else _pipeline_name(settings, file)

    def names(self) -> Iterable[str]:
        """Name the model, and the steps that are declared with it."""
        return tuple(self._told(None).names())

    def sheet(self, name: str, config: Mapping[str, Any] | None = None) -> Sheet | None:
        """Return what is told of it now."""
        if name != self._name and not name.startswith(f"{self._name}."):
            return None
        try:
            sheet = _sheet([self._told(config)], name)
        except CarpoolError as error:
            return Sheet(error=error)
        if sheet is None or self._first is None:
            return sheet
        return Sheet(versions=tuple(replace(one, build=self._build_first(one)) for one in sheet.versions))

    def _build_first(self, blueprint: Blueprint) -> Callable[[Named], OnOffer]:
        def build(others: Named) -> OnOffer:
            first, self._first = self._first, None
            return blueprint.build(others) if first is None else first

        return build

    def _told(self, config: Mapping[str, Any] | None) -> Told:
        settings = self._read(config)
        return Told(
            name=self._name,
            version="1",
            settings=settings,
            places=(),
            files=self._files(settings),
            generates=kind_of(settings) == "language model",
        )

    def _files(self, settings: ServeSettings) -> tuple[Path, ...]:
        """Return what the model is made from, to see whether it has changed."""
        targets = [settings.model.target, *(step.model.target for step in settings.own_steps.values())]
        heads = [target.rpartition(":")[0] or target for target in targets if target]
        return tuple(Path(one) for one in (settings.profile, *heads) if one and Path(one).exists())


def _pipeline_name(settings: ServeSettings, file: Path | None) -> str:
    """Return what clients call a pipeline: its own name, that of its file, or that of the directory it is in."""
    missing = [step for step in settings.steps if step not in settings.own_steps]
    if missing:
        where = f"{file}: " if file is not None else ""
        raise ConfigError(
            f"{where}pipeline.steps names {missing[0]!r}, and there is no table [step.{missing[0]}]: add it"
        )
    if settings.model.name is not None or file is None:
        return settings.model.name or "pipeline"
    return file.absolute().parent.name if file.name == FILE else file.stem


class Repository:
    """A directory with a directory for each model.

    Args:
        directory: where.
        flags: settings of the command line, which win over all files.
        environ: environment variables, which win over files.
    """

    def __init__(self, directory: Path, *, flags: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._flags = flags
        self._environ = environ

    def settings(self) -> ServeSettings:
        """Return what is told of the server.

        Raises:
            ConfigError: something of it is wrong.
        """
        return load_settings(self._shared(), flags=self._flags, environ=self._environ)

    def _shared(self) -> list[Path]:
        file = self._directory / FILE
        return [file] if file.is_file() else []

    def names(self) -> Iterable[str]:
        """Name every model that has a directory with a carpool.toml, and the steps that are declared with them."""
        return tuple(name for own in _model_directories(self._directory) for name in self._names_of(own))

    def _names_of(self, own: str) -> tuple[str, ...]:
        try:
            return tuple(dict.fromkeys(name for told in self._told(own, None) for name in told.names()))
        except CarpoolError:  # which its sheet says
            return (own,)

    def sheet(self, name: str, config: Mapping[str, Any] | None = None) -> Sheet | None:
        """Return what is told of a model now."""
        directories = _model_directories(self._directory)
        own = name if name in directories else name.rpartition(".")[0]
        if own not in directories:
            return None
        try:
            told = self._told(own, config)
        except CarpoolError as error:
            return Sheet(error=error)
        return _sheet(told, name)

    def _told(self, own: str, config: Mapping[str, Any] | None) -> list[Told]:
        directory = self._directory / own
        numbers = sorted(int(entry.name) for entry in directory.iterdir() if _is_version(entry))
        if not numbers:
            return [self._version(own, None, config)]
        wanted = self._read(own, [directory / FILE], config).model.versions
        return [self._version(own, number, config) for number in _chosen(numbers, wanted, directory / FILE)]

    def _version(self, own: str, number: int | None, config: Mapping[str, Any] | None) -> Told:
        directory = self._directory / own
        places = (directory,) if number is None else (directory / str(number), directory)
        files = [place / FILE for place in places if (place / FILE).is_file()]
        settings = self._read(own, files, config)
        used = (*self._shared(), *([settings.profile] if settings.profile and settings.profile.exists() else ()))
        version = "1" if number is None else str(number)
        kind = kind_of(settings, places)
        require_used(settings, kind, {f"the load of {own}", *map(str, files)}.__contains__)
        return Told(
            name=own,
            version=version,
            settings=settings,
            places=places,
            files=(*used, *places),
            generates=kind == "language model",
        )

    def _read(self, own: str, files: list[Path], config: Mapping[str, Any] | None) -> ServeSettings:
        settings = load_settings(
            [*files, *self._shared()],
            flags=self._flags,
            environ=self._environ,
            tables=config,
            tables_from=f"the load of {own}",
        )
        named = settings.setting("model.name")
        if named.value not in (None, own):
            raise ConfigError(f"{named.named} is {named.value!r}, and its directory {own!r}: leave the name out")
        of_the_server = {str(file) for file in self._shared()}
        for setting in settings.values:
            stray = setting.key.startswith(_OF_THE_SERVER) and setting.key not in _OWN_SERVER_KEYS
            if stray and setting.origin in {str(file) for file in files} - of_the_server:
                raise ConfigError(f"{setting.named} is for all models: put it into {self._directory / FILE}")
        return settings


def _is_version(entry: Path) -> bool:
    return entry.is_dir() and entry.name.isascii() and entry.name.isdigit() and str(int(entry.name)) == entry.name


def _chosen(numbers: list[int], wanted: object, file: Path) -> list[int]:
    """Return the versions that are to be served, rising."""
    if wanted == "all":
        return numbers
    if isinstance(wanted, int):
        return numbers[-wanted:]
    assert isinstance(wanted, tuple), "checked with the settings"
    missing = sorted(set(wanted) - set(numbers))
    if missing:
        there = ", ".join(map(str, numbers))
        raise ConfigError(f"{file}: model.versions names {missing[0]}, and there are {there}: correct the list")
    return sorted(wanted)


def _sheet(told: list[Told], name: str) -> Sheet | None:
    """Return the sheet of a model, or of a step that is declared with it."""
    versions: list[Blueprint] = []
    for one in told:
        versions += [blueprint_of(one)] if one.name == name else [step for step in steps_of(one) if step.name == name]
    return Sheet(versions=tuple(versions)) if versions else None
