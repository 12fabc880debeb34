"""What the server says while it runs: lines for people or for machines, written by a thread of their own.

The event loop only puts records into a queue, so a slow or full disk keeps nobody waiting. What can't be written is
counted and told once on standard error; the server serves on.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import time
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from typing import IO, TYPE_CHECKING, Any, Literal

import msgspec

from carpool.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LogFormat = Literal["text", "json"]

ACCESS = "carpool.access"
"""The logger of one line a request."""
MAX_BYTES = 64 * 1024**2
_MOST_WAITING = 65_536
_FIELDS = "carpool_fields"


def log_access(fields: Mapping[str, Any]) -> None:
    """Log that a request was answered.

    Args:
        fields: `method`, `path`, `status`, `duration_ms`, `request_id`, and whatever else is known.
    """
    message = f"{fields['method']} {fields['path']} {fields['status']}"
    logging.getLogger(ACCESS).info(message, extra={_FIELDS: fields})


class TextLines(logging.Formatter):
    """A line for people: when, how grave, what, and its fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_instant(record)} {record.levelname} {record.getMessage()}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """A JSON object a line: `at`, `level`, `logger`, `message`, the record's fields, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record."""
        document = {
            "at": _instant(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            document["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(document, enc_hook=str).decode()
        except UnicodeEncodeError:  # halves of surrogate pairs, which only escapes can say
            return json.dumps(document, default=str)


def _instant(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, _FIELDS, {})
    return fields


class _Losing(logging.Handler):
    """A handler that counts what it could not write, and says so once."""

    num_lost = 0

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name that logging calls
        """Give up one record."""
        del record
        self.num_lost += 1
        if self.num_lost == 1:
            with suppress(OSError, ValueError):
                sys.stderr.write(
                    f"carpool: the log can't be written ({sys.exc_info()[1]}); serving goes on without it\n"
                )


class _ToStream(_Losing, logging.StreamHandler[IO[str]]):
    """Writes to a stream."""


class _ToFile(_Losing, RotatingFileHandler):
    """Writes to a file that is set aside as `NAME.1` when it is full."""


class _Queue(QueueHandler):
    """Puts records where the writing thread takes them; what finds the queue full is lost."""

    num_lost = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the formatting to the thread that writes."""
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Hand a record over without waiting."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.num_lost += 1


@contextmanager
def logging_to(path: Path | None, *, form: LogFormat = "text", access: bool = False) -> Iterator[None]:
    """Write what the package logs while the block runs.

    Args:
        path: a file; None for standard error.
        form: lines for people, or a JSON object a line.
        access: whether to write a line for each request.

    Raises:
        ConfigError: the file can't be opened.
    """
    handler = _handler(path)
    handler.setFormatter(JsonLines() if form == "json" else TextLines())
    records: queue.Queue[logging.LogRecord] = queue.Queue(_MOST_WAITING)
    listener = QueueListener(records, handler)
    listener.start()
    try:
        with _heard(_Queue(records), access=access):
            yield
    finally:
        listener.stop()
        with suppress(OSError):  # what is left does not fit on the disk
            handler.close()


@contextmanager
def _heard(to_queue: _Queue, *, access: bool) -> Iterator[None]:
    """Have the loggers of the package, and those of what it exports traces by, heard here and nowhere else."""
    levels = {"carpool": logging.INFO, "opentelemetry": logging.ERROR}
    loggers = {logging.getLogger(name): level for name, level in levels.items()}
    before = {logger: (logger.level, logger.propagate) for logger in loggers}
    of_requests = logging.getLogger(ACCESS)
    level_of_requests = of_requests.level
    for logger, level in loggers.items():
        logger.addHandler(to_queue)
        logger.setLevel(level)
        logger.propagate = False
    of_requests.setLevel(logging.INFO if access else logging.CRITICAL)
    try:
        yield
    finally:
        of_requests.setLevel(level_of_requests)
        for logger, (level, propagate) in before.items():
            logger.removeHandler(to_queue)
            logger.setLevel(level)
            logger.propagate = propagate


def _handler(path: Path | None) -> _ToStream | _ToFile:
    if path is None:
        return _ToStream(sys.stderr)
    try:
        return _ToFile(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ConfigError(
            f"can't write the log to {str(path)!r}: {error}; name a writable file in a folder that is there"
        ) from error
