"""Read a JSON object of a model's directory, or say what is wrong with its file."""

import json
from pathlib import Path
from typing import Any

from carpool.errors import TargetError


def read_object(path: Path, *, required: bool = False) -> dict[str, Any]:
    """What a file holds; nothing where there is none.

    Args:
        path: of the file.
        required: whether the model can't do without it.

    Raises:
        TargetError: it is missing though required, can't be read, or holds no JSON object.
    """
    if not path.is_file():
        if required:
            raise TargetError(f"{path} is missing; a causal language model's directory needs it")
        return {}
    try:
        said = json.loads(path.read_bytes())
    except OSError as error:
        raise TargetError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise TargetError(f"{path} is not JSON: {error}") from error
    if not isinstance(said, dict):
        raise TargetError(f"{path} must hold a JSON object, not {type(said).__name__}")
    return said
