"""Name the line of the user's own code that an exception came from."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carpool.errors import CarpoolError, ModelError

_MOST_CHARACTERS = 2000
_IMPORTING = ("<frozen", str(Path(__file__).with_name("siblings.py")))  # between an `import` and what it runs


def describe(error: BaseException, file: str | Path | None = None) -> str:
    """Say in one line what was raised and where.

    Args:
        error: what was caught.
        file: prefer the deepest line within this file; None takes the deepest of all.

    Returns:
        Such as ``ValueError: no such layer (models.py, line 12: build())``.
    """
    where = writable(_syntax_place(error) or _frame_place(error, file))
    text = " ".join((writable(error.msg) if isinstance(error, SyntaxError) else text_of(error)).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{said} ({where})" if where else said


def text_of(error: BaseException) -> str:
    """Say in one line what an error says, as `writable` does; nothing where its own `__str__` fails."""
    return " ".join(line.strip() for line in _lines(error))


def first_line_of(error: BaseException) -> str:
    """Say what the first line of an error says, as `writable` does; nothing where its own `__str__` fails."""
    return next(iter(_lines(error)), "")


def _lines(error: BaseException) -> list[str]:
    try:
        return writable(str(error)).strip().splitlines()
    except Exception:  # noqa: BLE001 - the user's own class; what it raises tells nothing of what went wrong
        return []


def writable(text: str) -> str:
    r"""Return a text as it can be written anywhere: of bounded length, and Unicode.

    Args:
        text: of any length; may hold halves of surrogate pairs, which no encoding has.

    >>> print(writable("half \ud83d"))
    half \ud83d
    """
    cut = text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."
    return cut.encode("utf-8", "backslashreplace").decode()


def _syntax_place(error: BaseException) -> str:
    if not isinstance(error, SyntaxError) or not error.filename:
        return ""
    return f"{error.filename}, line {error.lineno}: {(error.text or '').strip()}"


def _frame_place(error: BaseException, file: str | Path | None) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(_IMPORTING)]
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
