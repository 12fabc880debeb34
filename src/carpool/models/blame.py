"""Name the line of the user's own code that an exception came from."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carpool.errors import CarpoolError, ModelError


def describe(error: BaseException, file: str | Path | None = None) -> str:
    """Say in one line what was raised and where.

    Args:
        error: what was caught.
        file: prefer the deepest line within this file; None takes the deepest of all.

    Returns:
        Such as ``ValueError: no such layer (models.py, line 12: build())``.
    """
    where = _syntax_place(error) or _frame_place(error, file)
    text = error.msg if isinstance(error, SyntaxError) else text_of(error)
    text = " ".join(text.split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{said} ({where})" if where else said


def text_of(error: BaseException) -> str:
    """Say what an error says; nothing where its own `__str__` fails."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own class; what it raises tells nothing of what went wrong
        return ""


def _syntax_place(error: BaseException) -> str:
    if not isinstance(error, SyntaxError) or not error.filename:
        return ""
    return f"{error.filename}, line {error.lineno}: {(error.text or '').strip()}"


def _frame_place(error: BaseException, file: str | Path | None) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    own = [frame for frame in frames if file is not None and Path(frame.filename) == Path(file)]
    chosen = (own or frames)[-1:]
    return "".join(f"{frame.filename}, line {frame.lineno}: {frame.line}" for frame in chosen)


def calling(what: str, function: Callable[[], Any]) -> Any:
    """Call a piece of the user's code that prepares a model.

    Args:
        what: how to name it in a message, such as ``"load() of models.py:Encoder"``.
        function: the call.

    Raises:
        ModelError: it raised; the message holds what, and the line.
    """
    try:
        return function()
    except CarpoolError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"{what} raised {describe(error)}") from error
