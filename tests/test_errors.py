"""The tree of errors."""

import inspect
import re

import pytest

from carpool import errors


def tree_of_the_docstring() -> dict[str, str]:
    """Return each error's parent as the picture in the module's docstring shows it."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"\s{4}((?:\|   |    )*)(?:[|`]-- )?([A-Z]\w+)(?:\s|$)", line)
        if match:
            depth = len(match[1]) // 4 + ("-- " in line)
            above[depth:] = [match[2]]
            if depth:
                parents[match[2]] = above[depth - 1]
    return parents


def test_picture_in_the_docstring_is_the_tree() -> None:
    """Every error is drawn, under its parent."""
    classes = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if name != "CarpoolError"}
    assert tree_of_the_docstring() == {name: kind.__mro__[1].__name__ for name, kind in classes.items()}


def test_every_error_can_be_caught_at_the_root() -> None:
    """One except clause is enough."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(kind, errors.CarpoolError) for kind in kinds)


@pytest.mark.parametrize("kind", [errors.Rejected, errors.QueueFull, errors.DeadlineExceeded])
def test_refusal_says_when_to_come_back(kind: type[errors.Rejected]) -> None:
    """Seconds where that helps, None where it does not."""
    assert kind("full", retry_after_s=1.5).retry_after_s == 1.5
    assert kind("full").retry_after_s is None
    assert str(kind("full")) == "full"
